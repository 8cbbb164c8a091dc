//! Transfers: the tasks that bring blocks here, from a neighbour or from an origin.
//!
//! A task verifies each block as it arrives and hands it to the [`Writer`], which writes in order on its own
//! thread, so that a slow disk slows the transfers down instead of filling the memory.

use crate::{
    happening::{Arrival, Arrived, Happening},
    shared::{Held, Shared},
};
use branchmesh_exchange::{Failure, Outcome, TransferId};
use branchmesh_image::{Location, VerifiedBlock};
use branchmesh_mesh::RequestError;
use branchmesh_repo::OriginError;
use branchmesh_wire::{IndexId, NodeId, Refusal};
use futures::StreamExt;
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Blocks between the tasks and the disk: 16 MiB at the average size, the memory that a slow disk may cost.
const WRITE_QUEUE_BLOCKS: usize = 256;
/// Most results that are reported to the loop at once.
const REPORT_MAX: usize = 64;

/// The way to the thread that writes blocks.
#[derive(Clone)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
}

enum Job {
    Write { transfer: TransferId, block: u32, at: Location, data: VerifiedBlock },
    Report(Arrival),
    End(TransferId, Outcome),
}

impl Writer {
    /// Starts the thread. It ends when the last `Writer` is gone.
    pub fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(WRITE_QUEUE_BLOCKS);
        std::thread::Builder::new().name("block-writer".into()).spawn(move || write_all(&shared, queue))?;
        Ok(Self { jobs })
    }

    async fn send(&self, job: Job) {
        // The thread is gone only when the agent stops; then nobody waits for the result.
        let _ = self.jobs.send(job).await;
    }

    async fn report(&self, transfer: TransferId, block: u32, result: Arrived) {
        self.send(Job::Report(Arrival { transfer, block, result })).await;
    }
}

fn write_all(shared: &Shared, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(REPORT_MAX);
    let mut unwritable = BTreeSet::new();
    while queue.blocking_recv_many(&mut jobs, REPORT_MAX) > 0 {
        let mut arrivals = Vec::new();
        for job in jobs.drain(..) {
            match job {
                Job::Write { transfer, block, at, data } => match shared.store.write(&at, &data) {
                    Ok(()) => arrivals.push(Arrival { transfer, block, result: Arrived::Stored }),
                    Err(error) => {
                        unwritable.insert(transfer);
                        shared.tell_blocking(Happening::DiskFailed(crate::in_words(&error)));
                    }
                },
                Job::Report(arrival) => arrivals.push(arrival),
                Job::End(transfer, outcome) => {
                    shared.tell_blocking(Happening::Blocks(std::mem::take(&mut arrivals)));
                    let innocent = unwritable.remove(&transfer);
                    let outcome = if innocent { Outcome::Failed(Failure::Local) } else { outcome };
                    shared.tell_blocking(Happening::TransferEnded(transfer, outcome));
                }
            }
        }
        if !arrivals.is_empty() {
            shared.tell_blocking(Happening::Blocks(arrivals));
        }
    }
}

/// Brings blocks from a neighbour.
pub(crate) async fn from_neighbour(
    shared: Arc<Shared>,
    writer: Writer,
    transfer: TransferId,
    node: NodeId,
    release: IndexId,
    blocks: Vec<u32>,
) {
    let outcome = match shared.held(&release) {
        Some(held) => request_blocks(&shared, &writer, transfer, node, &held, blocks).await,
        None => Outcome::Failed(Failure::Local),
    };
    writer.send(Job::End(transfer, outcome)).await;
}

async fn request_blocks(
    shared: &Shared,
    writer: &Writer,
    transfer: TransferId,
    node: NodeId,
    held: &Held,
    blocks: Vec<u32>,
) -> Outcome {
    let expected: Vec<(u32, u32)> = blocks
        .into_iter()
        .filter_map(|block| held.block(block).map(|entry| (block, entry.blob.encoded_len)))
        .collect();
    let mut stream = match shared.mesh.request_blocks(node, held.entry.id(), expected).await {
        Ok(stream) => stream,
        Err(error) => {
            debug!(%node, error = crate::in_words(&error), "a neighbour did not take a request");
            return Outcome::Failed(failure(&error));
        }
    };
    while let Some(next) = stream.next().await {
        let (block, bytes) = match next {
            Ok(next) => next,
            Err(error) => {
                debug!(%node, error = crate::in_words(&error), "a request broke off");
                return Outcome::Failed(failure(&error));
            }
        };
        let (Some(bytes), Some(entry)) = (bytes, held.block(block)) else {
            writer.report(transfer, block, Arrived::NotThere).await;
            continue;
        };
        match VerifiedBlock::verify(&entry.blob.id, bytes) {
            Ok(data) => writer.send(Job::Write { transfer, block, at: entry.location(), data }).await,
            Err(error) => {
                warn!(%node, error = crate::in_words(&error), "a neighbour sent a bad block");
                writer.report(transfer, block, Arrived::Bad).await;
                return Outcome::Failed(Failure::Invalid);
            }
        }
    }
    Outcome::Done
}

/// What a failed request means for what comes next.
fn failure(error: &RequestError) -> Failure {
    match error {
        RequestError::Refused(Refusal::Busy) => Failure::Busy,
        RequestError::Refused(Refusal::NotHere) => Failure::NotHere,
        RequestError::Refused(Refusal::NotAllowed) => Failure::NotAllowed,
        RequestError::Stalled => Failure::Stalled,
        RequestError::NotConnected | RequestError::BrokenOff(_) => Failure::Unreachable,
        RequestError::BadRequest => Failure::Local,
        RequestError::Refused(Refusal::Malformed)
        | RequestError::TooLong { .. }
        | RequestError::WrongLength { .. }
        | RequestError::Malformed(_) => Failure::Invalid,
    }
}

/// Brings blocks from the WAN origins: from the first, and what it did not give from the next.
pub(crate) async fn from_origins(
    shared: Arc<Shared>,
    writer: Writer,
    transfer: TransferId,
    release: IndexId,
    blocks: Vec<u32>,
) {
    let outcome = match shared.held(&release) {
        Some(held) => fetch_blocks(&shared, &writer, transfer, &held, blocks).await,
        None => Outcome::Failed(Failure::Local),
    };
    writer.send(Job::End(transfer, outcome)).await;
}

async fn fetch_blocks(
    shared: &Shared,
    writer: &Writer,
    transfer: TransferId,
    held: &Held,
    mut missing: Vec<u32>,
) -> Outcome {
    let mut bad = BTreeSet::new();
    for origin in &shared.origins {
        let wanted = missing
            .iter()
            .filter_map(|block| held.block(*block).map(|entry| (*block, entry.location(), entry.blob.id)))
            .collect();
        let mut stream = std::pin::pin!(origin.blocks(wanted));
        while let Some(next) = stream.next().await {
            match next {
                Ok((block, data)) => {
                    held.crossed.fetch_add(data.bytes().len() as u64, Ordering::Relaxed);
                    let Some(entry) = held.block(block) else { continue };
                    missing.retain(|other| *other != block);
                    writer.send(Job::Write { transfer, block, at: entry.location(), data }).await;
                }
                Err(error) => {
                    bad.extend(damaged(held, &missing, &error));
                    tell_origin_failed(shared, origin.url(), &error).await;
                }
            }
        }
        if missing.is_empty() {
            return Outcome::Done;
        }
    }
    for block in bad.intersection(&missing.into_iter().collect()) {
        writer.report(transfer, *block, Arrived::Bad).await;
    }
    Outcome::Failed(Failure::Unreachable)
}

/// Which of the wanted blocks an origin has damaged.
fn damaged(held: &Held, wanted: &[u32], error: &OriginError) -> Option<u32> {
    let OriginError::Damaged { block: id, .. } = error else { return None };
    wanted.iter().copied().find(|block| held.block(*block).is_some_and(|entry| entry.blob.id == *id))
}

async fn tell_origin_failed(shared: &Shared, url: &str, error: &OriginError) {
    let words = crate::in_words(error);
    warn!(origin = url, error = words, "an origin failed");
    shared.tell(Happening::OriginFailed(words)).await;
}
