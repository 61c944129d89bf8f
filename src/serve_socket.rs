//! Sockets of the operating system, and TLS on them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, UnixListener, UnixStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{config::ListenerConfig, config_bind::Bind};

/// Why nobody can be answered at a place.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address or socket can't be used.
    #[error("can't listen at {bind}: {error}")]
    Bind {
        /// The address or socket.
        bind: Bind,
        /// What the operating system said.
        error: io::Error,
    },
    /// The certificate or key can't be used.
    #[error("the certificate or key in {} can't be used: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The address, unless it came by a unix socket.
    pub(crate) address: Option<IpAddr>,
}

/// A socket that waits for connections.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "removes the file when it is dropped")] SocketFile,
    ),
}

impl Socket {
    /// Binds an address or a unix socket.
    pub(crate) async fn bind(bind: &Bind) -> Result<Self, BindError> {
        let socket = match bind {
            Bind::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Bind::Unix(path) => {
                bind_unix(path).await.map(|(listener, file)| Self::Unix(listener, file))
            }
        };
        socket.map_err(|error| BindError::Bind { bind: bind.clone(), error })
    }

    /// The address that was bound, where it is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// Waits for a connection.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::new(stream), Peer { address: Some(address.ip().to_canonical()) }))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::new(stream), Peer { address: None }))
            }
        }
    }
}

/// The file of a unix socket, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Where it is gone already, all is well.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds a unix socket. The socket that a dead process left behind is replaced, nothing else.
pub(crate) async fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match UnixStream::connect(path).await {
        Ok(_) => return Err(io::Error::other("another process listens there")),
        // Whatever is no socket refuses connections too.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                let problem =
                    "a file that is no socket is there; move it away, or choose another path";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
            }
            std::fs::remove_file(path)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// What a connection's bytes come from and go to.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection of any kind.
pub(crate) struct Stream(Box<dyn Transport>);

impl Stream {
    pub(crate) fn new(transport: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Box::new(transport))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

/// Reads the certificate of a listener that has one.
pub(crate) fn tls_acceptor(config: &ListenerConfig) -> Result<Option<TlsAcceptor>, BindError> {
    let (certificate, private_key) = (&config.tls_certificate, &config.tls_private_key);
    if certificate.as_os_str().is_empty() {
        return Ok(None);
    }
    let wrong =
        |path: &Path, reason: String| BindError::Certificate { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(private_key)
        .map_err(|error| wrong(private_key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong(certificate, error.to_string()))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "dear").unwrap();
        let socket = dir.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        for path in [&file, &link] {
            let error = bind_unix(path).await.unwrap_err();
            assert!(error.to_string().contains("no socket is there"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "dear");
        assert!(link.is_symlink());
        bind_unix(&socket).await.unwrap();
    }
}
