//! Whether a file may have changed, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// File systems stamp times with the tick of the kernel's clock, so two writes shortly after one
/// another can leave the same time. A file this young is read again.
const GRAIN: Duration = Duration::from_millis(50);

/// What `stat` says of a file (of the target, where it is a symbolic link).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    settled: bool,
}

impl Fingerprint {
    /// Taken at `now`, before the file is read.
    pub(crate) fn of(metadata: &Metadata, now: SystemTime) -> Self {
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            settled: now.duration_since(modified).is_ok_and(|age| age > GRAIN),
        }
    }

    /// Whether what was read when `self` was taken is surely what stands there at `later`.
    pub(crate) fn still_holds(&self, later: &Self) -> bool {
        let unsettled = Self {
            settled: self.settled,
            ..*later
        };
        self.settled && *self == unsettled
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn taken(path: &std::path::Path, age: Duration) -> Fingerprint {
        let metadata = fs::metadata(path).unwrap();
        let now = metadata.modified().unwrap() + age;
        Fingerprint::of(&metadata, now)
    }

    #[test]
    fn an_old_file_holds_and_a_young_one_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, "a: 1").unwrap();
        let old = taken(&path, Duration::from_secs(5));
        let young = taken(&path, Duration::from_millis(1));
        assert!(old.still_holds(&old));
        assert!(
            !young.still_holds(&young),
            "it may be written again within the same tick"
        );
        assert!(!young.still_holds(&old));
    }

    #[test]
    fn another_file_under_the_same_name_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a.yaml"), folder.path().join("b"));
        fs::write(&path, "a: 1").unwrap();
        fs::write(&other, "a: 2").unwrap();
        let before = taken(&path, Duration::from_secs(5));
        fs::rename(&other, &path).unwrap();
        assert!(!before.still_holds(&taken(&path, Duration::from_secs(5))));
    }
}
