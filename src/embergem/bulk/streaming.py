"""Jobs without an output file: parts for stdout, and record batches for a program. They cannot be continued."""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

from embergem.bulk.blocks import BlockMaker
from embergem.bulk.encoder import make_encoder
from embergem.bulk.job_options import JobOptions
from embergem.bulk.parts import Part, PartBuilder
from embergem.bulk.pipeline import BLOCKS_AHEAD, Computer, read_ahead
from embergem.bulk.source import Source
from embergem.bulk.text_readers import require_rows
from embergem.sdk.backend import Backend


def stream_parts(source: Source, backend: Backend, options: JobOptions) -> Generator[Part, None, None]:
    """Yield the rows of a source with their vectors, a block at a time, as soon as they are computed.

    Equal texts are computed once as long as their vectors are in memory; see `pipeline.RECENT_BYTES`.

    Raises:
        EmptyInput: The source has no rows.
        InvalidRequest: A row is refused by the policy. The rows before it were yielded.
    """
    encoder = make_encoder(backend, options)
    computer = Computer(encoder, options)
    builder = PartBuilder(options, source.selection.keep)
    rows = 0
    with (
        read_ahead(BlockMaker(encoder, options).blocks(source.batches()), BLOCKS_AHEAD) as blocks,
        closing(computer.blocks(blocks)) as computed,
    ):
        for block in computed:
            builder.add(block)
            part = builder.flush()
            rows += len(block.vectors)
            computer.release(rows)
            if part is not None:
                yield part
    require_rows(rows, source.name)


def stream_batches(source: Source, backend: Backend, options: JobOptions) -> Any:
    """Return a `pyarrow.RecordBatchReader` of the rows with their vectors, which are computed while it is read.

    The metadata of its schema describes the vectors, as that of a file does.
    """
    import pyarrow as pa

    from embergem.bulk.arrow_writers import ArrowFormat, with_metadata
    from embergem.bulk.job_identity import describe_space

    example = Computer(make_encoder(backend, options), options)
    form = ArrowFormat(options, source.selection.keep, source.types, example.dtype, example.width)
    schema = with_metadata(form.schema, describe_space(backend, options))

    def batches() -> Iterator[Any]:
        with closing(stream_parts(source, backend, options)) as parts:
            for part in parts:
                table = form.with_vectors(form.table(part), part.vectors)
                yield from table.replace_schema_metadata(schema.metadata).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())
