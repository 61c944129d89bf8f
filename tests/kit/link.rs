//! The way from one server to another: a TCP proxy that can be cut.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What a link does now.
#[derive(Clone, Copy, Debug)]
struct Flow {
    target: Option<SocketAddr>,
    is_cut: bool,
    /// How often answers were lost: connections that are older lose theirs.
    losses: u64,
}

/// Carries the connections of one server to another, until it is dropped.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    flow: watch::Sender<Flow>,
    _task: JoinSet<()>,
}

impl Link {
    /// Makes a link that leads nowhere yet.
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (flow, watching) = watch::channel(Flow { target: None, is_cut: false, losses: 0 });
        let mut task = JoinSet::new();
        task.spawn(accept(listener, watching));
        Self { address, flow, _task: task }
    }

    /// Where the server that calls finds the link.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets where the link leads.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.flow.send_modify(|flow| flow.target = Some(target));
    }

    /// Ends all connections and refuses new ones.
    pub(crate) fn cut(&self) {
        self.flow.send_modify(|flow| flow.is_cut = true);
    }

    /// Lets connections through again.
    pub(crate) fn mend(&self) {
        self.flow.send_modify(|flow| flow.is_cut = false);
    }

    /// Lets requests of the open connections through once more, but not the answers: who asked
    /// can't know whether the other heard it.
    pub(crate) fn lose_answers(&self) {
        self.flow.send_modify(|flow| flow.losses += 1);
    }
}

async fn accept(listener: TcpListener, flow: watch::Receiver<Flow>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((caller, _)) = listener.accept() => {
                connections.spawn(carry(caller, flow.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection until either side ends it, or the link is cut.
async fn carry(caller: TcpStream, mut flow: watch::Receiver<Flow>) {
    let Flow { target: Some(target), is_cut: false, losses } = *flow.borrow() else { return };
    let Ok(callee) = TcpStream::connect(target).await else { return };
    let (mut from_caller, mut to_caller) = caller.into_split();
    let (mut from_callee, mut to_callee) = callee.into_split();
    let watched = flow.clone();
    let forth = async {
        let _ = tokio::io::copy(&mut from_caller, &mut to_callee).await;
        let _ = to_callee.shutdown().await;
        // The callee closes then; what it still has to say is carried.
        std::future::pending::<()>().await;
    };
    let back = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_callee.read(&mut bytes).await {
            if watched.borrow().losses > losses
                || to_caller.write_all(&bytes[..count]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = forth => {}
        () = back => {}
        _ = flow.wait_for(|flow| flow.is_cut) => {}
    }
}
