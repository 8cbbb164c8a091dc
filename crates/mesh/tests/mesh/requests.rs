//! Requests and their answers, good and bad.

use crate::support::{Node, Organisation, requested_blocks};
use branchmesh_mesh::{BlockStream, RequestError};
use branchmesh_wire::{BlockId, IndexId, Refusal, Request};
use bytes::Bytes;
use std::sync::Arc;

const BLOCK_BYTES: usize = 60_000;

async fn pair() -> (Node, Node) {
    let organisation = Organisation::new();
    let mut server = organisation.start("pc-server", &[]).await;
    let mut client = organisation.start("pc-client", &[&server]).await;
    server.meet(&mut client).await;
    (server, client)
}

fn block(number: u32) -> Bytes {
    let pattern = number.to_le_bytes();
    (0..BLOCK_BYTES).map(|at| pattern[at % 4] ^ (at / 4) as u8).collect()
}

async fn collect(mut stream: BlockStream) -> Vec<Result<(u32, Option<Bytes>), RequestError>> {
    let mut blocks = Vec::new();
    while let Some(block) = stream.next().await {
        blocks.push(block);
    }
    blocks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_blocks_flow_in_parallel_requests() {
    let (mut server, client) = pair().await;
    let (server_id, client_id) = (server.id(), client.id());
    let release = IndexId::of(b"release");
    let serving = tokio::spawn(async move {
        for _ in 0..4 {
            let (from, request, reply) = server.request().await;
            assert_eq!(from.node, client_id);
            assert_eq!(from.groups, ["finance"]);
            tokio::spawn(async move {
                let mut sender = reply.blocks().await;
                for number in requested_blocks(&request) {
                    // Every seventh is not here (any more).
                    let bytes = (number % 7 != 0).then(|| block(number));
                    sender.send(bytes).await.unwrap();
                }
                sender.finish().await;
            });
        }
        server
    });

    let client = Arc::new(client);
    let asking = (0..4u32).map(|part| {
        let client = client.clone();
        tokio::spawn(async move {
            let wanted: Vec<u32> = (part * 100..(part + 1) * 100).collect();
            let lengths = wanted.iter().map(|number| (*number, BLOCK_BYTES as u32)).collect();
            let stream = client.mesh.request_blocks(server_id, release, lengths).await.unwrap();
            let blocks = collect(stream).await;
            assert_eq!(blocks.len(), 100);
            for (number, got) in wanted.into_iter().zip(blocks) {
                let (got_number, bytes) = got.unwrap();
                assert_eq!(got_number, number);
                assert_eq!(bytes, (number % 7 != 0).then(|| block(number)), "block {number}");
            }
        })
    });
    for asked in asking {
        asked.await.unwrap();
    }
    serving.await.unwrap();
}

#[tokio::test]
async fn parts_and_metadata_are_answered_with_their_bytes() {
    let (mut server, client) = pair().await;
    let server_id = server.id();
    let part = Request::IndexPart { release: IndexId::of(b"release"), id: BlockId::of(b"part") };
    let metadata = Request::Metadata { name: "timestamp.json".into() };
    let large = Bytes::from(vec![7; 3 << 20]);
    for (request, bytes) in [(part, large), (metadata, Bytes::new())] {
        let answering = async {
            let (_, asked, reply) = server.request().await;
            assert_eq!(asked, request);
            reply.bytes(bytes.clone()).await;
        };
        let asking = client.mesh.request_part(server_id, request.clone(), 4 << 20);
        let ((), answer) = tokio::join!(answering, asking);
        assert_eq!(answer.unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason() {
    let (mut server, client) = pair().await;
    let server_id = server.id();
    for refusal in [Refusal::NotHere, Refusal::NotAllowed, Refusal::Busy, Refusal::Malformed] {
        let answering = async { server.request().await.2.refuse(refusal).await };
        let asking = client.mesh.request_blocks(server_id, IndexId::of(b"release"), vec![(1, 10)]);
        let ((), answer) = tokio::join!(answering, asking);
        assert_eq!(answer.unwrap_err(), RequestError::Refused(refusal));
    }
}

#[tokio::test]
async fn answers_longer_than_expected_are_not_taken() {
    let (mut server, client) = pair().await;
    let server_id = server.id();
    let answering = async { server.request().await.2.bytes(Bytes::from(vec![1; 101])).await };
    let asking = client.mesh.request_part(server_id, Request::Metadata { name: "root.json".into() }, 100);
    let ((), answer) = tokio::join!(answering, asking);
    assert_eq!(answer.unwrap_err(), RequestError::TooLong { claimed: 101, limit: 100 });

    for (length, sent) in [(10, 11), (10, 9), (10, 4 << 20)] {
        let answering = async {
            let mut sender = server.request().await.2.blocks().await;
            sender.send(Some(Bytes::from_static(b"right size"))).await.unwrap();
            // The asker may have hung up already.
            let _ = sender.send(Some(Bytes::from(vec![1; sent]))).await;
            sender.finish().await;
        };
        let asking = async {
            let blocks = vec![(4, length), (5, length), (6, length)];
            collect(client.mesh.request_blocks(server_id, IndexId::of(b"r"), blocks).await.unwrap()).await
        };
        let ((), blocks) = tokio::join!(answering, asking);
        assert_eq!(blocks.len(), 2, "nothing comes after an error");
        assert_eq!(blocks[0], Ok((4, Some(Bytes::from_static(b"right size")))));
        let wrong = RequestError::WrongLength { block: 5, claimed: sent as u32, expected: length };
        assert_eq!(blocks[1], Err(wrong));
    }
}

#[tokio::test]
async fn an_answer_that_is_broken_off_is_not_mistaken_for_its_end() {
    let (mut server, client) = pair().await;
    let server_id = server.id();
    let answering = async {
        let mut sender = server.request().await.2.blocks().await;
        sender.send(Some(Bytes::from_static(b"first"))).await.unwrap();
        drop(sender);
        drop(server.request().await.2);
    };
    let asking = async {
        let stream = client.mesh.request_blocks(server_id, IndexId::of(b"r"), vec![(0, 5), (1, 5)]).await;
        // The reset may overtake what was sent before it.
        let broken = match stream {
            Ok(stream) => collect(stream).await.pop().unwrap().unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(broken, RequestError::BrokenOff(_)), "{broken:?}");
        let request = Request::Metadata { name: "root.json".into() };
        let unanswered = client.mesh.request_part(server_id, request, 100).await.unwrap_err();
        assert!(matches!(unanswered, RequestError::BrokenOff(_)), "{unanswered:?}");
    };
    tokio::join!(answering, asking);
}

#[tokio::test]
async fn a_neighbour_that_asks_for_too_much_at_once_is_told_so() {
    let (mut server, client) = pair().await;
    let server_id = server.id();
    let client = Arc::new(client);
    let request = Request::Metadata { name: "root.json".into() };
    let ask = |client: Arc<Node>, request: Request| {
        tokio::spawn(async move { client.mesh.request_part(server_id, request, 100).await })
    };
    let mut asked = Vec::new();
    let mut replies = Vec::new();
    for _ in 0..32 {
        asked.push(ask(client.clone(), request.clone()));
        replies.push(server.request().await.2);
    }
    let one_more = client.mesh.request_part(server_id, request.clone(), 100).await;
    assert_eq!(one_more.unwrap_err(), RequestError::Refused(Refusal::Busy));

    // A place is free as soon as an answer has been given.
    replies.pop().unwrap().bytes(Bytes::from_static(b"root")).await;
    asked.push(ask(client.clone(), request.clone()));
    replies.push(server.request().await.2);
    for reply in replies {
        reply.bytes(Bytes::from_static(b"root")).await;
    }
    for answer in asked {
        assert_eq!(answer.await.unwrap().unwrap(), "root");
    }
}

#[tokio::test]
async fn requests_end_with_their_connection_and_need_one() {
    let (mut server, client) = pair().await;
    let server_id = server.id();
    let request = Request::Metadata { name: "root.json".into() };
    let stranger = branchmesh_wire::NodeId([9; 32]);
    let nobody = client.mesh.request_part(stranger, request.clone(), 100).await;
    assert_eq!(nobody.unwrap_err(), RequestError::NotConnected);

    let vanishing = async {
        let _unanswered = server.request().await;
        drop(server);
    };
    let ((), answer) = tokio::join!(vanishing, client.mesh.request_part(server_id, request, 100));
    assert!(matches!(answer.unwrap_err(), RequestError::BrokenOff(_)));
}
