//! Manifests: whatever they hold, loading, compiling and locating give a snapshot and problems, the same ones every time.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nuncio_compile::Options;
use nuncio_controller::check;

/// One file a process, in memory where the system has such a place.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let shared = PathBuf::from("/dev/shm");
    let folder = if shared.is_dir() {
        shared
    } else {
        std::env::temp_dir()
    };
    folder.join(format!("nuncio-fuzz-{}.yaml", std::process::id()))
});

fuzz_target!(|text: &[u8]| {
    std::fs::write(&*FILE, text).expect("the file for the input can be written");
    let paths = [FILE.clone()];
    let options = Options {
        open_default_listeners: true,
        ..Options::default()
    };
    let (first, loaded) = check(&paths, &options);
    let (second, _) = check(&paths, &options);
    assert_eq!(
        first.snapshot.problems, second.snapshot.problems,
        "problems differ between two compiles"
    );
    assert_eq!(
        first.snapshot.listeners, second.snapshot.listeners,
        "routes differ between two compiles"
    );
    for upstream in &first.snapshot.upstreams {
        assert!(!upstream.mappings.is_empty(), "{} is nobody's", upstream.name);
    }
    for problem in first.snapshot.problems.iter() {
        assert!(
            !problem.message.is_empty() && !problem.message.ends_with('.'),
            "{}",
            problem.message
        );
    }
    assert!(loaded.file_count() <= 1);
});
