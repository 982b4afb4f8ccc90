//! One entry: its listener, and the connections that came by it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meridian_api::crds::topology::EntryReport;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Goal, Told};
use crate::backoff::API;

/// A primary that takes no connection within this is not there; the client is sent away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connections that may wait to be taken.
const BACKLOG: u32 = 1024;

/// Bytes on their way, each way.
const BUFFER: usize = 16 << 10;

/// Pause after the system had no file for another connection.
const BREATH: Duration = Duration::from_millis(50);

/// What an entry is made of.
pub(super) struct Entry {
    pub(super) database: String,
    pub(super) address: SocketAddr,
    pub(super) goal: watch::Receiver<Option<Goal>>,
    pub(super) places: Arc<Semaphore>,
    pub(super) told: watch::Sender<Told>,
    pub(super) report: EntryReport,
}

/// Passes clients on until `stop`.
pub(super) async fn serve(entry: Entry, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = accept(&entry, &stop) => {}
    }
}

async fn accept(entry: &Entry, stop: &CancellationToken) {
    let database = &entry.database;
    let mut failures = 0_u32;
    let listener = loop {
        match listen(entry.address) {
            Ok(listener) => break listener,
            Err(error) => {
                warn!(database, address = %entry.address, %error, "takes no clients for its primary yet; trying on");
                failures = failures.saturating_add(1);
                tokio::time::sleep(API.delay(failures, rand::random())).await;
            }
        }
    };
    info!(database, address = %entry.address, "takes clients for its primary");
    entry.told.send_modify(|told| {
        // One that was shut meanwhile is not told any more.
        if let Some(told) = told.get_mut(database) {
            *told = Some(entry.report.clone());
        }
    });
    let mut full = false;
    loop {
        let client = match listener.accept().await {
            Ok((client, _from)) => client,
            Err(error) => {
                warn!(database, %error, "a client was not taken");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&entry.places).try_acquire_owned() else {
            if !std::mem::replace(&mut full, true) {
                warn!(
                    database,
                    "this node passes on as many clients as it can; others are sent away"
                );
            }
            continue;
        };
        full = false;
        let (goal, stop) = (entry.goal.clone(), stop.clone());
        drop(tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = carry(client, goal) => {}
            }
            drop(place);
        }));
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    // Connections inherit it. A client whose host has gone would otherwise keep its place, because the primary asks this node
    // whether it is there.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Carries one client's bytes until either side ends, or the goal turns.
async fn carry(client: TcpStream, mut goal: watch::Receiver<Option<Goal>>) {
    let Some(to) = goal.borrow_and_update().clone() else {
        return;
    };
    let turned = goal.wait_for(|now| now.as_ref() != Some(&to));
    tokio::select! {
        biased;
        _turned = turned => {}
        _ended = exchange(client, &to) => {}
    }
}

async fn exchange(mut client: TcpStream, to: &Goal) -> io::Result<()> {
    client.set_nodelay(true)?;
    let dialled = TcpStream::connect((to.host.as_str(), to.port));
    let mut primary = tokio::time::timeout(PATIENCE, dialled).await??;
    primary.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut primary, BUFFER, BUFFER).await?;
    Ok(())
}
