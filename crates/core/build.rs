//! See `embergem_build`.

fn main() -> std::io::Result<()> {
    embergem_build::name_build()
}
