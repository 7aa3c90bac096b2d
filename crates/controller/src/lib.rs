//! From where configuration is kept to what is served: reads manifests, watches them, compiles and
//! publishes.
//!
//! ```text
//! folder ─▶ manifest ─▶ Loaded ─▶ compile ─▶ Publisher
//!             yaml        │ ▲
//!             locate ◀────┘ └── watch ─▶ hold_off
//! ```
//!
//! Time alone may call for a compile, too, since certificates end: that is kept in `agenda`.

mod agenda;
mod compiler;
mod error;
mod file_mode;
mod fingerprint;
mod folder;
mod hold_off;
mod kubernetes;
mod kustomize;
mod loaded;
mod locate;
mod manifest;
mod material;
mod publish;
mod watch;

use std::path::PathBuf;

use nuncio_compile::{LastGood, Options, Output};

pub use error::ControllerError;
pub use file_mode::run_files;
pub use kubernetes::{Cluster, ClusterHealth, run_kubernetes};
pub use loaded::Loaded;
pub use publish::Publisher;

use manifest::Manifest;

/// Reads files, and folders of files, once: `.yaml`, `.yml` and `.json`, several documents a file,
/// and the certificates and keys that they, or the options, name as files. What cannot be read is a problem.
/// The path `-` is standard input.
pub fn load(paths: &[PathBuf], options: &Options) -> Loaded {
    let (standard_input, paths): (Vec<PathBuf>, Vec<PathBuf>) =
        paths.iter().cloned().partition(|path| path.as_os_str() == "-");
    let mut loaded = Loaded::of(&paths, options);
    loaded.refresh(&|_| false);
    if !standard_input.is_empty() {
        loaded.add(Manifest::from_standard_input());
    }
    loaded.tell_nothing();
    loaded
}

/// Reads and compiles once. Problems point to their fields.
pub fn check(paths: &[PathBuf], options: &Options) -> (Output, Loaded) {
    let loaded = load(paths, options);
    let output = compile(&loaded, options, &LastGood::default());
    (output, loaded)
}

/// Compiles what was read and narrows the places of the problems.
fn compile(loaded: &Loaded, options: &Options, last_good: &LastGood) -> Output {
    let mut output = nuncio_compile::compile(&loaded.objects, options, last_good);
    let mut problems = output.snapshot.problems.to_vec();
    loaded.locate(&mut problems);
    output.snapshot.problems = problems.into();
    output
}
