//! Tests of the public API, with the tiny checkpoints of the repository.

use embergem::{
    EmbeddingLoaderType, EmbeddingModel, EmbeddingModelBuilder, EmbeddingRequest, EmbeddingRequestBuilder, Error,
    ModelDType, ModelStatus, MultiModelBuilder, Task,
};
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn golden(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../tests/data/goldens", name]
        .iter()
        .collect();
    path.to_string_lossy().into_owned()
}

/// A copy of a checkpoint in a directory with this name, which is removed when the value is dropped.
struct Copied(PathBuf);

impl Copied {
    fn new(test: &str, checkpoint: &str, name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("embergem-{}-{test}", std::process::id()));
        copy(Path::new(&golden(checkpoint)), &root.join(name));
        Self(root.join(name))
    }

    fn builder(&self) -> EmbeddingModelBuilder {
        EmbeddingModelBuilder::new(self.0.to_str().unwrap())
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn model(name: &str) -> EmbeddingModel {
    EmbeddingModelBuilder::new(golden(name)).build().await.unwrap()
}

fn texts(texts: &[&str]) -> EmbeddingRequestBuilder {
    EmbeddingRequest::builder().add_prompts(texts.iter().copied())
}

fn shared<T: Send + Sync + Clone + 'static>(value: T) -> T {
    value
}

#[tokio::test]
async fn many_tasks_get_the_bits_that_each_gets_alone() {
    let model = shared(model("gemma3_text").await);
    let long = "carbon and iron ".repeat(9);
    let inputs = ["What is graphene?", "", "a", long.as_str()];
    let mut alone = Vec::new();
    for text in inputs {
        alone.push(model.generate_embedding(text).await.unwrap());
    }
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let (model, text) = (model.clone(), inputs[number % 4].to_owned());
            tokio::spawn(async move {
                let request = EmbeddingRequest::builder().add_prompt("a neighbour").add_prompt(text);
                model.generate_embeddings(request).await.unwrap()
            })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap()[1], alone[number % 4]);
    }
}

#[tokio::test]
async fn a_request_over_several_batches_keeps_its_order() {
    let model = EmbeddingModelBuilder::new(golden("bert_mean"))
        .with_max_num_seqs(3)
        .with_threads(1)
        .build()
        .await
        .unwrap();
    let rows: Vec<Vec<u32>> = (0..10)
        .map(|number| vec![5 + number; 1 + number as usize % 4])
        .collect();
    let request = EmbeddingRequest::builder().add_tokens_batch(rows.clone());
    let together = model.embed(request).await.unwrap();
    assert_eq!(together.tokens(), rows.iter().map(Vec::len).sum::<usize>());
    for (row, vector) in rows.into_iter().zip(&together) {
        let alone = model.embed(EmbeddingRequest::builder().add_tokens(row)).await.unwrap();
        assert_eq!(alone.as_flat(), vector);
    }
}

#[tokio::test]
async fn no_executor_is_needed_and_none_is_blocked() {
    let model = model("bert_mean").await;
    // The first poll sends the request to a thread and returns without waiting for the work.
    let rows: Vec<Vec<u32>> = (0..400).map(|number| vec![number % 90 + 5; 100]).collect();
    let mut future = pin!(model.embed(EmbeddingRequest::builder().add_tokens_batch(rows)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(future.as_mut().poll(&mut context), Poll::Pending));
    let embeddings = loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => break answer.unwrap(),
            Poll::Pending => std::thread::yield_now(),
        }
    };
    assert_eq!(embeddings.len(), 400);
}

#[tokio::test]
async fn a_dropped_future_makes_room_for_the_next() {
    let model = model("gemma3_text").await;
    let rows: Vec<Vec<u32>> = (0..2000).map(|number| vec![number % 900 + 5; 120]).collect();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..50 {
        let request = EmbeddingRequest::builder().add_tokens_batch(rows.clone());
        let mut future = Box::pin(model.embed(request));
        let polled = future.as_mut().poll(&mut context);
        assert!(polled.is_pending(), "{polled:?}");
    }
    // The dropped requests have twelve million tokens, which would take minutes to compute.
    assert_eq!(model.generate_embedding("still there").await.unwrap().len(), 96);
}

#[tokio::test]
async fn each_cause_of_an_error_has_its_variant() {
    let model = model("gemma3_text").await;
    let fails = async |request: EmbeddingRequestBuilder| model.generate_embeddings(request).await.unwrap_err();
    assert!(matches!(fails(EmbeddingRequest::builder()).await, Error::EmptyInput(_)));
    assert!(matches!(
        fails(texts(&["a"]).add_tokens([])).await,
        Error::EmptyInput(_)
    ));
    assert!(matches!(
        fails(texts(&["a"]).add_tokens([100_000])).await,
        Error::TokenOutOfRange(_)
    ));
    assert!(matches!(
        fails(texts(&["a"]).with_task("nonsense")).await,
        Error::InvalidTask(_)
    ));
    assert!(matches!(
        fails(texts(&["a"]).with_dimensions(7)).await,
        Error::InvalidDimensions(_)
    ));
    let tokens = EmbeddingRequest::builder().add_tokens([1]).with_task(Task::Query);
    assert!(matches!(fails(tokens).await, Error::InvalidTask(_)));
    let long = "carbon ".repeat(500);
    assert!(matches!(fails(texts(&[&long])).await, Error::InputTooLong(_)));

    let cut = model
        .embed(texts(&["short", &long]).with_truncate_sequence(true))
        .await
        .unwrap();
    assert_eq!(cut.truncated(), [1]);

    let absent = EmbeddingModelBuilder::new("no such model").build().await;
    assert!(matches!(absent.err().unwrap(), Error::UnknownModel(_)));
    let other = EmbeddingModelBuilder::new(golden("bert_cls")).with_loader_type(EmbeddingLoaderType::Qwen3Embedding);
    assert!(matches!(other.build().await.err().unwrap(), Error::UnsupportedModel(_)));
}

#[tokio::test]
async fn texts_ids_and_titles_may_be_mixed() {
    let model = model("gemma3_text").await;
    let mixed = EmbeddingRequest::builder()
        .add_prompt("a")
        .add_tokens([2, 9, 1])
        .add_prompt("b");
    let mixed = model.generate_embeddings(mixed).await.unwrap();
    assert_eq!(mixed[2], model.generate_embedding("b").await.unwrap());
    let titled = EmbeddingRequest::builder()
        .add_document("Graphene", "carbon")
        .add_prompt("carbon")
        .with_task(Task::Document);
    let titled = model.generate_embeddings(titled).await.unwrap();
    let by_hand = model
        .generate_embedding("title: Graphene | text: carbon")
        .await
        .unwrap();
    assert_eq!(titled[0], by_hand);
    assert_ne!(titled[0], titled[1]);
}

#[tokio::test]
async fn models_are_loaded_unloaded_and_removed_by_name() {
    let models = MultiModelBuilder::new()
        .add_model(EmbeddingModelBuilder::new(golden("bert_mean")))
        .add_model_with_alias("gemma", EmbeddingModelBuilder::new(golden("gemma3_text")))
        .with_default_model("gemma")
        .build()
        .await
        .unwrap();
    assert_eq!(models.get_default_model_id().unwrap().unwrap(), "gemma3_text");
    let vector = models
        .generate_embedding_with_model("a", Some("bert_mean"))
        .await
        .unwrap();

    models.unload_model("bert_mean").unwrap();
    let status = |name: &str| {
        models
            .list_models_with_status()
            .unwrap()
            .into_iter()
            .find(|(id, _)| id == name)
    };
    assert_eq!(status("bert_mean").unwrap().1, ModelStatus::Unloaded);
    let again = models
        .generate_embedding_with_model("a", Some("bert_mean"))
        .await
        .unwrap();
    assert_eq!(again, vector);
    assert!(models.is_model_loaded("bert_mean").unwrap());

    models.unload_model("gemma").unwrap();
    models.reload_model("gemma").await.unwrap();
    assert!(models.is_model_loaded("gemma3_text").unwrap());

    models.remove_model("gemma").unwrap();
    assert_eq!(models.list_models().unwrap(), ["bert_mean"]);
    assert_eq!(models.get_default_model_id().unwrap().unwrap(), "bert_mean");
    assert!(matches!(models.remove_model("bert_mean"), Err(Error::Management(_))));
    assert!(matches!(models.is_model_loaded("gemma"), Err(Error::UnknownModel(_))));

    let twice = MultiModelBuilder::new()
        .add_model(EmbeddingModelBuilder::new(golden("bert_mean")))
        .add_model(EmbeddingModelBuilder::new(golden("bert_mean")));
    assert!(matches!(twice.build().await.err().unwrap(), Error::Management(_)));
    assert!(matches!(
        MultiModelBuilder::new().build().await.err().unwrap(),
        Error::Management(_)
    ));
}

#[tokio::test]
async fn one_checkpoint_can_be_loaded_twice_under_other_names() {
    let builder = || EmbeddingModelBuilder::new(golden("bert_mean"));
    let models = MultiModelBuilder::new()
        .add_model_with_alias("exact", builder())
        .add_model_with_alias("small", builder().with_dtype(ModelDType::I8))
        .build()
        .await
        .unwrap();
    assert_eq!(models.list_models().unwrap(), ["bert_mean", "small"]);
    for (name, id, dtype) in [
        ("exact", "bert_mean", "float32"),
        ("bert_mean", "bert_mean", "float32"),
        ("small", "small", "int8"),
    ] {
        let info = models.info_with_model(Some(name)).await.unwrap();
        assert_eq!((info.id.as_str(), info.dtype.as_str()), (id, dtype));
    }
    models.remove_model("exact").unwrap();
    assert_eq!(models.list_models().unwrap(), ["small"]);

    let same = MultiModelBuilder::new()
        .add_model_with_alias("one", builder())
        .add_model_with_alias("one", builder());
    let refused = same.build().await.err().unwrap();
    assert!(refused.to_string().contains("\"one\""), "{refused}");
}

#[tokio::test]
async fn sizes_of_a_namesake_are_those_that_the_model_has() {
    let copied = Copied::new("namesake", "gemma3_text", "embeddinggemma");
    let model = copied.builder().build().await.unwrap();
    assert_eq!(model.info().await.unwrap().allowed_dimensions, [96]);
    let refused = model.generate_embeddings(texts(&["a"]).with_dimensions(512)).await;
    assert!(matches!(refused, Err(Error::InvalidDimensions(_))), "{refused:?}");
}

#[tokio::test]
async fn a_row_that_is_not_finite_fails_its_own_request_only() {
    const BAD: u32 = 50;
    let copied = Copied::new("infinite", "bert_mean", "bert_mean");
    let file = copied.0.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let about: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let table = &about["embeddings.word_embeddings.weight"];
    assert_eq!(table["dtype"], "F32");
    let width = table["shape"][1].as_u64().unwrap() as usize;
    let start = 8 + header + table["data_offsets"][0].as_u64().unwrap() as usize + BAD as usize * width * 4;
    for value in bytes[start..start + width * 4].as_chunks_mut::<4>().0 {
        *value = 3e38f32.to_le_bytes(); // finite numbers, but their norm is infinite
    }
    fs::write(&file, bytes).unwrap();
    let model = copied.builder().build().await.unwrap();
    let tokens = |rows: Vec<Vec<u32>>| model.embed(EmbeddingRequest::builder().add_tokens_batch(rows));
    let alone = tokens(vec![vec![5, 6], vec![7]]).await.unwrap();
    assert!(matches!(tokens(vec![vec![BAD]]).await, Err(Error::NonFiniteOutput(_))));

    // The first request keeps the model busy, so that the following ones share one batch.
    let mut busy = Box::pin(tokens(vec![vec![9; 100]; 400]));
    let mut good = Box::pin(tokens(vec![vec![5, 6], vec![7]]));
    let mut bad = Box::pin(tokens(vec![vec![8], vec![BAD, 4]]));
    let mut after = Box::pin(tokens(vec![vec![5, 6], vec![7]]));
    let mut context = Context::from_waker(Waker::noop());
    assert!(busy.as_mut().poll(&mut context).is_pending());
    assert!(good.as_mut().poll(&mut context).is_pending());
    assert!(bad.as_mut().poll(&mut context).is_pending());
    assert!(after.as_mut().poll(&mut context).is_pending());
    assert_eq!(busy.await.unwrap().len(), 400);
    assert_eq!(good.await.unwrap(), alone);
    // The index in the error counts within the request, not within the batch.
    let bad = bad.await.unwrap_err();
    assert!(
        matches!(&bad, Error::NonFiniteOutput(message) if message.contains("of input 1 ")),
        "{bad}"
    );
    assert_eq!(after.await.unwrap(), alone);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_cut_short_fails_its_model_and_no_other() {
    let copied = Copied::new("cut", "bert_mean", "cut");
    let weights = copied.0.join("model.safetensors");
    let sound = fs::read(&weights).unwrap();
    let model = MultiModelBuilder::new()
        .add_model(copied.builder())
        .add_model(EmbeddingModelBuilder::new(golden("static")))
        .build()
        .await
        .unwrap();
    let before = model.generate_embedding("a").await.unwrap();
    fs::File::options()
        .write(true)
        .open(&weights)
        .unwrap()
        .set_len(0)
        .unwrap();
    for _ in 0..2 {
        let refused = model.generate_embedding("a").await.unwrap_err();
        assert_eq!(refused.code(), "model_failed");
        assert!(
            refused
                .to_string()
                .contains("model.safetensors of the loaded model was cut short"),
            "{refused}"
        );
        model.generate_embedding_with_model("a", Some("static")).await.unwrap();
    }
    fs::write(&weights, sound).unwrap();
    assert_eq!(model.generate_embedding("a").await.unwrap_err().code(), "model_failed");
    model.unload_model("cut").unwrap();
    assert_eq!(model.generate_embedding("a").await.unwrap(), before);
}
