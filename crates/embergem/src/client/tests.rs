//! Tests against a server that answers what the test says.

use super::token_estimate::PART_INPUTS;
use super::transport::{Transport, retry_after};
use super::*;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use ureq::http::HeaderMap;

/// The bodies of the requests for vectors that a server received.
type Received = Arc<Mutex<Vec<Value>>>;

/// Starts a server that answers a request for vectors with the status and the JSON that `answer` makes of its body.
fn serve_with_status(answer: impl Fn(&Value) -> (u16, Value) + Send + 'static) -> (Client, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let received = Received::default();
    let bodies = Arc::clone(&received);
    thread::spawn(move || {
        for stream in listener.incoming() {
            talk(&mut stream.unwrap(), &answer, &bodies);
        }
    });
    (Client::new(address, None).unwrap(), received)
}

fn talk(stream: &mut TcpStream, answer: impl Fn(&Value) -> (u16, Value), received: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(&*stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let (status, answer) = if body.is_empty() {
        (200, json!({"data": [], "root": "model", "max_tokens": 512})) // GET of one model, or of all
    } else {
        let body = serde_json::from_slice(&body).unwrap();
        let answer = answer(&body);
        received.lock().unwrap().push(body);
        answer
    };
    let answer = answer.to_string();
    let length = answer.len();
    let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all((head + &answer).as_bytes()).unwrap();
}

fn serve(answer: impl Fn(&Value) -> Value + Send + 'static) -> (Client, Received) {
    serve_with_status(move |body| (200, answer(body)))
}

fn row(index: usize, vector: &[f32], truncated: bool) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    json!({"index": index, "embedding": STANDARD.encode(bytes), "tokens": 1, "truncated": truncated})
}

fn rows(data: Vec<Value>) -> Value {
    json!({"data": data, "usage": {"prompt_tokens": 3}})
}

fn request(inputs: u32) -> EmbeddingRequest {
    let ids = (0..inputs).map(|number| vec![number]);
    EmbeddingRequest::builder().add_tokens_batch(ids).build().unwrap()
}

#[test]
fn many_inputs_are_sent_in_parts_and_keep_their_order() {
    let (client, received) = serve(|body| {
        let inputs = body["input"].as_array().unwrap();
        let vectors = inputs.iter().enumerate().map(|(index, ids)| {
            let id = ids[0].as_u64().unwrap();
            row(index, &[id as f32, 1.0], id % 3 == 0)
        });
        rows(vectors.collect())
    });
    let answer = client
        .embed_all(&request(3000), "default", &AtomicBool::new(false))
        .unwrap();
    for (number, vector) in answer.iter().enumerate() {
        assert_eq!(vector, [number as f32, 1.0]);
    }
    let cut: Vec<usize> = (0..3000).step_by(3).collect();
    assert_eq!(answer.truncated(), cut);
    let sizes = received.lock().unwrap();
    let sizes: Vec<usize> = sizes
        .iter()
        .map(|body| body["input"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 3000);
    assert!(sizes.iter().all(|size| *size <= PART_INPUTS), "{sizes:?}");
    assert_eq!(answer.tokens(), 3 * sizes.len());
}

#[test]
fn an_answer_without_exactly_one_vector_for_each_input_is_refused() {
    let whole = [1.0, 2.0];
    for (data, reason) in [
        (vec![row(0, &whole, false)], "1 vectors for 2 inputs"),
        (vec![row(1, &whole, false), row(1, &whole, false)], "vector 1"),
        (vec![row(0, &whole, false), row(2, &whole, false)], "vector 2"),
        (vec![row(0, &[], false), row(1, &[], false)], "0 bytes"),
        (vec![row(0, &whole, false), row(1, &whole[1..], false)], "4 bytes"),
    ] {
        let (client, _) = serve(move |_| rows(data.clone()));
        let refused = client.embed_all(&request(2), "default", &AtomicBool::new(false));
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn nothing_is_sent_after_the_future_was_dropped() {
    let (client, received) = serve(|_| rows(Vec::new()));
    let answer = client.embed_all(&request(2), "default", &AtomicBool::new(true));
    assert!(matches!(answer, Err(Error::Closed)), "{answer:?}");
    assert!(received.lock().unwrap().is_empty());
}

/// A vector for each input of a body.
fn vectors(body: &Value) -> Value {
    let inputs = body["input"].as_array().unwrap().len();
    rows((0..inputs).map(|index| row(index, &[1.0], false)).collect())
}

/// The number of inputs in each request.
fn counts(received: &Received) -> Vec<usize> {
    let bodies = received.lock().unwrap();
    bodies
        .iter()
        .map(|body| body["input"].as_array().unwrap().len())
        .collect()
}

#[test]
fn parts_are_of_one_kind_and_follow_the_token_counts_of_the_server() {
    let (client, received) = serve(|body| {
        let texts = body["input"].as_array().unwrap().iter().filter_map(Value::as_str);
        let characters: usize = texts.map(|text| text.chars().count()).sum();
        let mut answer = vectors(body);
        answer["usage"]["prompt_tokens"] = json!(characters / 4);
        answer
    });
    let mut request = EmbeddingRequest::builder().add_tokens([1]);
    for _ in 0..100 {
        request = request.add_prompt("x".repeat(500));
    }
    let request = request.add_tokens([2]).build().unwrap();
    let result = client.embed_all(&request, "default", &AtomicBool::new(false)).unwrap();
    assert_eq!(result.len(), 102);
    // 500 tokens a text at first, which is below the limit of 512; then 0.625 and 0.4375 tokens per character.
    assert_eq!(counts(&received), [32, 52, 16, 2]);
}

#[test]
fn a_part_that_is_too_large_for_the_server_is_sent_in_halves() {
    let (client, received) = serve_with_status(|body| match body["input"].as_array().unwrap().len() {
        inputs if inputs > 3 => (
            413,
            json!({"error": {"message": "too large", "code": "body_too_large"}}),
        ),
        _ => (200, vectors(body)),
    });
    let result = client
        .embed_all(&request(7), "default", &AtomicBool::new(false))
        .unwrap();
    assert_eq!(result.len(), 7);
    assert_eq!(counts(&received), [7, 3, 4, 2, 2]);
}

#[test]
fn an_error_counts_inputs_in_the_whole_request() {
    let (client, _) = serve_with_status(|body| {
        let message = "Input 1 has 900 tokens.";
        let error = json!({"message": message, "code": "context_length_exceeded", "input_index": 1});
        match body["input"][0].is_string() {
            true => (200, vectors(body)),
            false => (400, json!({"error": error})),
        }
    });
    let request = EmbeddingRequest::builder()
        .add_tokens([1])
        .add_prompt("a")
        .add_tokens([2]);
    let refused = client.embed_all(&request.build().unwrap(), "default", &AtomicBool::new(false));
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::InputTooLong(_)), "{error:?}");
    assert_eq!(error.to_string(), "Input 2 has 900 tokens.");
}

#[test]
fn a_retry_needs_a_status_and_a_pause_that_allow_it() {
    let mut headers = HeaderMap::new();
    assert_eq!(retry_after(StatusCode::TOO_MANY_REQUESTS, &headers), None);
    headers.insert("retry-after", "2".parse().unwrap());
    assert_eq!(
        retry_after(StatusCode::TOO_MANY_REQUESTS, &headers),
        Some(Duration::from_secs(2))
    );
    assert_eq!(retry_after(StatusCode::BAD_REQUEST, &headers), None);
    headers.insert("retry-after", "3600".parse().unwrap());
    assert_eq!(retry_after(StatusCode::SERVICE_UNAVAILABLE, &headers), None);
}

#[test]
fn cookies_of_the_server_are_not_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let transport = Transport::new(format!("http://{}", listener.local_addr().unwrap()), None);
    let server = thread::spawn(move || {
        let heads = (0..2).map(|_| {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            let answer = "HTTP/1.1 200 OK\r\nset-cookie: session=a; Path=/\r\nconnection: close\r\n\
                content-length: 2\r\n\r\n{}";
            (&stream).write_all(answer.as_bytes()).unwrap();
            head.to_ascii_lowercase()
        });
        heads.collect::<Vec<_>>()
    });
    for _ in 0..2 {
        transport.get::<Value>("/health").unwrap();
    }
    for head in server.join().unwrap() {
        assert!(head.starts_with("get /health ") && !head.contains("cookie"), "{head}");
    }
}
