//! Why file mode cannot start.

use std::path::PathBuf;

/// What keeps [`crate::run_files`] from starting. Everything that happens later is a problem in the
/// snapshot instead.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// No path was given.
    #[error("no configuration was given; name a file or folder with --config")]
    NoPath,
    /// A path leads nowhere, which is most likely a typing mistake.
    #[error("configuration path {} does not exist; name a file or folder that does", .0.display())]
    PathMissing(PathBuf),
    /// No way to an API server is known, or the one that is given cannot be used.
    #[error("{0}")]
    NoCluster(String),
    /// The thread that compiles could not be started.
    #[error("no thread could be started to compile on: {0}; see how many this user may have (ulimit -u)")]
    NoThread(#[from] std::io::Error),
    /// The work on a blocking thread ended early.
    #[error("the thread that compiles ended early: {0}")]
    Thread(#[from] tokio::task::JoinError),
}
