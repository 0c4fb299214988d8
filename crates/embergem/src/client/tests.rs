//! Against a server that answers as the test says.

use super::*;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

/// The bodies of the requests for vectors that a server had.
type Asked = Arc<Mutex<Vec<Value>>>;

/// A server that answers a request for vectors with what `answer` makes of its body.
fn serve(answer: impl Fn(&Value) -> Value + Send + 'static) -> (Client, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let bodies = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            talk(&mut stream.unwrap(), &answer, &bodies);
        }
    });
    (Client::new(address, None).unwrap(), asked)
}

fn talk(stream: &mut TcpStream, answer: impl Fn(&Value) -> Value, asked: &Mutex<Vec<Value>>) {
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
    let answer = if body.is_empty() {
        json!({"data": []}) // GET /v1/models
    } else {
        let body = serde_json::from_slice(&body).unwrap();
        let answer = answer(&body);
        asked.lock().unwrap().push(body);
        answer
    };
    let answer = answer.to_string();
    let length = answer.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all((head + &answer).as_bytes()).unwrap();
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
fn many_inputs_go_in_parts_and_come_back_whole() {
    let (client, asked) = serve(|body| {
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
    let sizes = asked.lock().unwrap();
    let sizes: Vec<usize> = sizes
        .iter()
        .map(|body| body["input"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 3000);
    assert!(sizes.iter().all(|size| *size <= INPUTS_A_REQUEST), "{sizes:?}");
    assert_eq!(answer.tokens(), 3 * sizes.len());
}

#[test]
fn an_answer_that_has_not_each_vector_once_is_refused() {
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
fn nothing_is_sent_for_a_future_that_is_gone() {
    let (client, asked) = serve(|_| rows(Vec::new()));
    let answer = client.embed_all(&request(2), "default", &AtomicBool::new(true));
    assert!(matches!(answer, Err(Error::Closed)), "{answer:?}");
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn inputs_are_split_by_kind_and_size() {
    let text = |len| EmbeddingRequestInput::Prompt("x".repeat(len));
    let ids = EmbeddingRequestInput::Tokens(vec![1]);
    let inputs = [text(9), ids.clone(), text(2 * BYTES_A_REQUEST), text(9), ids];
    assert_eq!(parts(&inputs), [vec![0], vec![2], vec![3], vec![1, 4]]);
}

#[test]
fn only_a_server_that_asks_for_it_is_waited_for() {
    let mut headers = HeaderMap::new();
    assert_eq!(wait(StatusCode::TOO_MANY_REQUESTS, &headers), None);
    headers.insert("retry-after", "2".parse().unwrap());
    assert_eq!(
        wait(StatusCode::TOO_MANY_REQUESTS, &headers),
        Some(Duration::from_secs(2))
    );
    assert_eq!(wait(StatusCode::BAD_REQUEST, &headers), None);
    headers.insert("retry-after", "3600".parse().unwrap());
    assert_eq!(wait(StatusCode::SERVICE_UNAVAILABLE, &headers), None);
}
