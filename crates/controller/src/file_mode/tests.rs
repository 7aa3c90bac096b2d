//! Over real files and the system's own watches. Each step waits for what it expects to be
//! published; the limit is only there so that a broken build fails instead of hanging.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use nuncio_model::{Problem, Snapshot};
use tokio::sync::watch;

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

/// File mode at work on a folder.
struct Running {
    snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    endpoints: watch::Receiver<Arc<EndpointTable>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ControllerError>>,
}

fn mapping(name: &str) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata:\n  name: {name}\nspec:\n  hostname: '*'\n  prefix: /{name}/\n  service: http://{name}.test\n"
    )
}

fn service(port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: svc}}\nspec:\n  ports:\n  - port: 80\n---\napiVersion: v1\nkind: Endpoints\nmetadata: {{name: svc}}\nsubsets:\n- addresses:\n  - ip: 127.0.0.1\n  ports:\n  - port: {port}\n"
    )
}

fn options() -> Options {
    Options {
        open_default_listeners: true,
        ..Options::default()
    }
}

impl Running {
    fn start(paths: Vec<PathBuf>) -> Self {
        Self::by(Arc::new(SystemTime::now), POLL, paths)
    }

    fn by(clock: Arc<Clock>, poll: Duration, paths: Vec<PathBuf>) -> Self {
        let (snapshot_sender, snapshot) = watch::channel(None);
        let (endpoints_sender, endpoints) = watch::channel(Arc::default());
        let publisher = Publisher {
            snapshot: snapshot_sender,
            endpoints: endpoints_sender,
        };
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(run_by(clock, poll, paths, options(), publisher, stopped));
        Self {
            snapshot,
            endpoints,
            stop,
            task,
        }
    }

    fn on(folder: &TempDir) -> Self {
        Self::start(vec![folder.path().to_owned()])
    }

    /// Waits for a snapshot that fits.
    async fn until(&mut self, fits: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let found = self
            .snapshot
            .wait_for(|snapshot| snapshot.as_deref().is_some_and(&fits));
        let found = timeout(LIMIT, found).await;
        found
            .expect("nothing fitting was published")
            .unwrap()
            .clone()
            .unwrap()
    }

    /// Waits until exactly the Mappings of these names are served.
    async fn serves(&mut self, names: &[&str]) -> Arc<Snapshot> {
        self.until(|snapshot| mappings(snapshot) == names).await
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        timeout(LIMIT, self.task).await.unwrap().unwrap().unwrap();
    }
}

fn mappings(snapshot: &Snapshot) -> Vec<String> {
    let users = snapshot.upstreams.iter().flat_map(|upstream| &upstream.mappings);
    let mut names: Vec<String> = users.map(|mapping| mapping.name.to_string()).collect();
    names.sort();
    names
}

fn has(snapshot: &Snapshot, reason: &str) -> bool {
    snapshot.problems.iter().any(|problem| problem.reason == reason)
}

#[tokio::test]
async fn edits_new_files_and_deletions_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    fs::write(&a, mapping("one")).unwrap();
    let mut running = Running::on(&folder);
    let first = running.serves(&["one"]).await;
    assert_eq!(first.revision, 1);
    fs::write(&a, mapping("two")).unwrap();
    running.serves(&["two"]).await;
    fs::write(&b, mapping("three")).unwrap();
    running.serves(&["three", "two"]).await;
    fs::remove_file(&a).unwrap();
    running.serves(&["three"]).await;
    running.end().await;
}

#[tokio::test]
async fn a_file_that_is_renamed_over_another_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, mapping("one")).unwrap();
    let mut running = Running::start(vec![file.clone()]);
    running.serves(&["one"]).await;
    for name in ["two", "three"] {
        let new = folder.path().join(".a.yaml.new");
        fs::write(&new, mapping(name)).unwrap();
        fs::rename(&new, &file).unwrap();
        running.serves(&[name]).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_mounted_config_map_that_is_swapped_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let version = |number: &str, name: &str| {
        fs::create_dir(at(number)).unwrap();
        fs::write(at(number).join("a.yaml"), mapping(name)).unwrap();
        symlink(number, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    version("..1", "one");
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    // Once as a folder, once as a file in it.
    for path in [folder.path().to_owned(), at("a.yaml")] {
        let mut running = Running::start(vec![path]);
        running.serves(&["one"]).await;
        version("..2", "two");
        fs::remove_dir_all(at("..1")).unwrap();
        running.serves(&["two"]).await;
        version("..1", "one");
        fs::remove_dir_all(at("..2")).unwrap();
        running.serves(&["one"]).await;
        running.end().await;
    }
}

#[tokio::test]
async fn a_broken_file_keeps_what_it_held_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, mapping("one") + &mapping("two")).unwrap();
    let mut running = Running::on(&folder);
    running.serves(&["one", "two"]).await;
    fs::write(&file, mapping("one") + "---\nkind: [").unwrap();
    let broken = running.until(|snapshot| has(snapshot, "bad_yaml")).await;
    assert_eq!(mappings(&broken), ["one", "two"]);
    fs::write(&file, mapping("three")).unwrap();
    let mended = running.serves(&["three"]).await;
    assert!(!has(&mended, "bad_yaml"));
    running.end().await;
}

#[tokio::test]
async fn an_emptied_file_and_a_path_that_vanished_keep_what_they_held() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("manifests");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("a.yaml"), mapping("one")).unwrap();
    let mut running = Running::start(vec![inner.clone()]);
    running.serves(&["one"]).await;
    fs::write(inner.join("a.yaml"), "").unwrap();
    let emptied = running.until(|snapshot| has(snapshot, "empty_file")).await;
    assert_eq!(mappings(&emptied), ["one"]);
    fs::remove_dir_all(&inner).unwrap();
    let gone = running.until(|snapshot| has(snapshot, "unreadable_path")).await;
    assert_eq!(mappings(&gone), ["one"]);
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("a.yaml"), mapping("two")).unwrap();
    let back = running.serves(&["two"]).await;
    assert!(!has(&back, "unreadable_path"));
    // The folder is another one now: it must be listened to as well.
    fs::write(inner.join("a.yaml"), mapping("three")).unwrap();
    running.serves(&["three"]).await;
    running.end().await;
}

#[tokio::test]
async fn a_path_that_vanished_keeps_what_it_held_while_others_change() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    fs::write(&a, mapping("one")).unwrap();
    fs::write(&b, mapping("two")).unwrap();
    let mut running = Running::start(vec![a.clone(), b.clone()]);
    running.serves(&["one", "two"]).await;
    fs::remove_file(&a).unwrap();
    running.until(|snapshot| has(snapshot, "unreadable_path")).await;
    fs::write(&b, mapping("three")).unwrap();
    running.serves(&["one", "three"]).await;
    running.end().await;
}

#[tokio::test]
async fn an_emptied_folder_keeps_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    fs::write(&a, mapping("a")).unwrap();
    fs::write(&b, mapping("b")).unwrap();
    let mut running = Running::on(&folder);
    running.serves(&["a", "b"]).await;
    // One of several is a deletion,
    fs::remove_file(&b).unwrap();
    running.serves(&["a"]).await;
    // the last of all is a volume that is not mounted.
    fs::remove_file(&a).unwrap();
    let snapshot = running.until(|snapshot| has(snapshot, "emptied_folder")).await;
    assert_eq!(mappings(&snapshot), ["a"]);
    // Nor is a file that does not hold anything yet a configuration without routes.
    let c = folder.path().join("c.yaml");
    fs::write(&c, "kind: [").unwrap();
    let snapshot = running.until(|snapshot| has(snapshot, "bad_yaml")).await;
    assert_eq!(mappings(&snapshot), ["a"]);
    fs::write(&c, mapping("c")).unwrap();
    let snapshot = running.serves(&["c"]).await;
    assert!(!has(&snapshot, "emptied_folder"));
    running.end().await;
}

#[tokio::test]
async fn nothing_is_published_before_the_first_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::on(&folder);
    fs::write(folder.path().join("a.yaml"), mapping("a")).unwrap();
    let snapshot = running.until(|_| true).await;
    assert_eq!(mappings(&snapshot), ["a"]);
    running.end().await;
}

#[tokio::test]
async fn a_file_is_not_read_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (slow, quick) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    fs::write(&slow, mapping("one") + &mapping("two")).unwrap();
    let mut running = Running::on(&folder);
    running.serves(&["one", "two"]).await;
    let mut writer = File::create(&slow).unwrap();
    writer.write_all(mapping("one").as_bytes()).unwrap();
    // Another edit is served meanwhile, and the half that stands there is not.
    fs::write(&quick, mapping("quick")).unwrap();
    running.serves(&["one", "quick", "two"]).await;
    writer.write_all(mapping("three").as_bytes()).unwrap();
    drop(writer);
    running.serves(&["one", "quick", "three"]).await;
    running.end().await;
}

#[tokio::test]
async fn nothing_is_published_when_nothing_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, mapping("one")).unwrap();
    let mut running = Running::on(&folder);
    let first = running.serves(&["one"]).await;
    // Written again with the same content and then with a comment: both say the same.
    fs::write(&file, mapping("one")).unwrap();
    fs::write(&file, mapping("one") + "# comment\n").unwrap();
    fs::write(folder.path().join("b.yaml"), mapping("two")).unwrap();
    let second = running.serves(&["one", "two"]).await;
    assert_eq!((first.revision, second.revision), (1, 2));
    running.end().await;
}

#[tokio::test]
async fn addresses_change_without_a_new_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("a.yaml"),
        mapping("one").replace("one.test", "svc"),
    )
    .unwrap();
    let services = folder.path().join("services.yaml");
    fs::write(&services, service(7001)).unwrap();
    let mut running = Running::on(&folder);
    running.serves(&["one"]).await;
    let shows = |port: u16| {
        move |table: &Arc<EndpointTable>| {
            let all: Vec<_> = table
                .services
                .values()
                .flat_map(|addresses| addresses.iter())
                .collect();
            all.iter().any(|address| address.port() == port) && all.len() == 1
        }
    };
    timeout(LIMIT, running.endpoints.wait_for(shows(7001)))
        .await
        .unwrap()
        .unwrap();
    fs::write(&services, service(7002)).unwrap();
    timeout(LIMIT, running.endpoints.wait_for(shows(7002)))
        .await
        .unwrap()
        .unwrap();
    // The compile that followed found nothing new, so the next edit is the second to be published.
    fs::write(folder.path().join("b.yaml"), mapping("two")).unwrap();
    let second = running.serves(&["one", "two"]).await;
    assert_eq!(second.revision, 2);
    running.end().await;
}

#[tokio::test]
async fn files_that_contexts_name_are_read_and_watched() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("certificates/ca.pem");
    let context = format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: TLSContext\nmetadata: {{name: ctx}}\nspec:\n  cacert_chain_file: {}\n",
        authority.display()
    );
    let mapping = mapping("one").replace("http://one.test", "https://one.test") + "  tls: ctx\n";
    fs::write(folder.path().join("a.yaml"), mapping + &context).unwrap();
    let mut running = Running::on(&folder);
    running.until(|snapshot| has(snapshot, "file_unreadable")).await;
    // Neither the file nor its folder was there before.
    fs::create_dir(folder.path().join("certificates")).unwrap();
    fs::write(&authority, "no certificate").unwrap();
    running.until(|snapshot| has(snapshot, "no_certificate")).await;
    fs::remove_file(&authority).unwrap();
    running.until(|snapshot| has(snapshot, "file_unreadable")).await;
    running.end().await;
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(vec![folder.path().join("none")]);
    let error = timeout(LIMIT, running.task).await.unwrap().unwrap().unwrap_err();
    let path = folder.path().join("none");
    assert_eq!(
        error.to_string(),
        format!(
            "configuration path {} does not exist; name a file or folder that does",
            path.display()
        )
    );
    let none = Running::start(Vec::new());
    let error = timeout(LIMIT, none.task).await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no configuration was given; name a file or folder with --config"
    );
}

/// A TLSContext with a CA that is valid from 2026 to 2027.
fn with_authority(folder: &TempDir) -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, certificate.pem()).unwrap();
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: TLSContext\nmetadata: {{name: ctx}}\nspec:\n  cacert_chain_file: {}\n",
        file.display()
    )
}

#[tokio::test]
async fn time_alone_brings_the_warnings_of_a_certificate() {
    const DAY: u64 = 24 * 60 * 60;
    const END: u64 = 1_798_761_600;
    let folder = tempfile::tempdir().unwrap();
    let manifest = mapping("one").replace("http://one.test", "https://one.test") + "  tls: ctx\n";
    fs::write(folder.path().join("a.yaml"), manifest + &with_authority(&folder)).unwrap();
    let seconds = Arc::new(AtomicU64::new(END - 31 * DAY));
    let hand = Arc::clone(&seconds);
    let clock = move || SystemTime::UNIX_EPOCH + Duration::from_secs(hand.load(Ordering::SeqCst));
    let mut running = Running::by(
        Arc::new(clock),
        Duration::from_millis(20),
        vec![folder.path().to_owned()],
    );
    let tells = |snapshot: &Snapshot, reason: &str, text: &str| {
        let of_mapping = |problem: &&Problem| {
            problem
                .object
                .as_ref()
                .is_some_and(|object| &*object.kind == "Mapping")
        };
        let mut told = snapshot.problems.iter().filter(of_mapping);
        told.any(|problem| problem.reason == reason && problem.message.contains(text))
    };
    let quiet = running.serves(&["one"]).await;
    assert!(!has(&quiet, "certificate_expires"), "{:?}", quiet.problems);
    for (now, reason, text) in [
        (
            END - 30 * DAY,
            "certificate_expires",
            "within 30 days (in 30 days",
        ),
        (
            END - 29 * DAY,
            "certificate_expires",
            "within 30 days (in 29 days",
        ),
        (
            END - 7 * DAY + 1,
            "certificate_expires",
            "within 7 days (in 7 days",
        ),
        (END + 1, "certificate_expired", "expired at 2027-01-01T00:00:00Z"),
        // The clock is put back.
        (END, "certificate_expires", "within 7 days (today"),
    ] {
        seconds.store(now, Ordering::SeqCst);
        running.until(|snapshot| tells(snapshot, reason, text)).await;
    }
    let last = running.until(|_| true).await;
    assert_eq!(last.revision, 6, "each was published once");
    running.end().await;
}
