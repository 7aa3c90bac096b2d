//! Which of several gateways may write: the one that holds a Lease of the cluster.
//!
//! ```text
//! Election (decides, knows no clock) ◀── Keeper (asks the API server) ──▶ Leadership (asked before each write)
//! ```
//!
//! Nobody compares clocks of two machines: a holder is gone when its Lease has not changed for as long as
//! it lasts, measured here. The holder itself stops a third earlier.

mod election;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::election::{Election, Move, Record};
use super::backoff::Backoff;
use super::follow::unreached;
use super::health::ClusterHealth;

/// A request about the Lease has this long.
const LIMIT: Duration = Duration::from_secs(3);
/// How often the Lease is renewed by who holds it, and looked at by who does not.
const PAUSE: Duration = Duration::from_secs(5);
/// How often it is asked for where RBAC forbids it.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(30);
/// Most of a name in the API.
const NAME_LENGTH: usize = 200;

/// Where the Lease is, and who wants it.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Unlike that of any other process.
    pub(super) identity: Arc<str>,
}

impl Claim {
    /// The claim of this process for the gateways of one `ambassador_id`.
    pub(super) fn new(namespace: &str, ambassador_id: &str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            namespace: namespace.to_owned(),
            name: lease_name(ambassador_id),
            identity: format!("{}_{:016x}", host.trim(), fastrand::u64(..)).into(),
        }
    }
}

/// `nuncio-leader`, and the id where it is not the default. What a name in the API cannot hold becomes `-`,
/// and a sum of the id keeps two apart that are equal then.
fn lease_name(ambassador_id: &str) -> String {
    if ambassador_id == "default" {
        return "nuncio-leader".to_owned();
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let text: String = ambassador_id
        .chars()
        .take(NAME_LENGTH)
        .map(|c| if fits(c) { c } else { '-' })
        .collect();
    if text == ambassador_id && text.ends_with(fits) {
        return format!("nuncio-leader-{text}");
    }
    // FNV-1a: the same in every version of the program, which a hasher of the standard library is not.
    let sum = ambassador_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("nuncio-leader-{text}-{sum:016x}")
}

/// Whether this process may write; asked before each write.
#[derive(Clone, Debug)]
pub(super) struct Leadership {
    until: watch::Receiver<Option<Instant>>,
}

impl Leadership {
    /// Whether it may write at this moment.
    pub(super) fn holds(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until it may not.
    pub(super) async fn lost(&mut self) {
        loop {
            let Some(until) = *self.until.borrow_and_update() else {
                return;
            };
            tokio::select! {
                () = sleep_until(until) => return,
                // Nobody renews any more: what was won last runs out by itself.
                changed = self.until.changed() => if changed.is_err() {
                    sleep_until(until).await;
                    return;
                }
            }
        }
    }
}

/// Holds the Lease, or waits for it.
pub(super) struct Keeper {
    api: Api<DynamicObject>,
    claim: Claim,
    election: Election,
    until: watch::Sender<Option<Instant>>,
    health: Arc<ClusterHealth>,
    /// The trouble with it is in the log.
    told: bool,
}

enum Outcome {
    /// All is as it should be, whoever holds it.
    Fine,
    Forbidden(String),
    Failed(String),
}

impl Keeper {
    pub(super) fn new(client: Client, claim: Claim, health: Arc<ClusterHealth>) -> (Self, Leadership) {
        let kind = GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease");
        let resource = ApiResource::from_gvk_with_plural(&kind, "leases");
        let (sender, until) = watch::channel(None);
        let keeper = Self {
            api: Api::namespaced_with(client, &claim.namespace, &resource),
            election: Election::new(Arc::clone(&claim.identity)),
            claim,
            until: sender,
            health,
            told: false,
        };
        (keeper, Leadership { until })
    }

    /// Strives for the Lease until `stop` is ready, and then lets go of it.
    pub(super) async fn keep(mut self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = self.strive() => {}
            () = stop => {}
        }
        self.set(None);
        self.release().await;
    }

    async fn strive(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let outcome = self.step().await;
            let pause = match outcome {
                Outcome::Fine => {
                    backoff.reset();
                    if std::mem::take(&mut self.told) {
                        tracing::info!("the Lease {} can be had again", self.name());
                    }
                    PAUSE.mul_f64(0.8 + 0.4 * fastrand::f64())
                }
                Outcome::Forbidden(words) => {
                    self.tell(&format!(
                        "it is forbidden, so this gateway writes no status and no Events; let its Role in \
                         namespace {} get, create and update leases.coordination.k8s.io, or say in \
                         AMBASSADOR_NAMESPACE which namespace is its own ({words})",
                        self.claim.namespace
                    ));
                    FORBIDDEN_PAUSE.mul_f64(0.8 + 0.4 * fastrand::f64())
                }
                Outcome::Failed(words) => {
                    self.tell(&format!("{words}; it is tried again"));
                    backoff.next(fastrand::f64())
                }
            };
            sleep(pause).await;
        }
    }

    fn name(&self) -> String {
        format!("{}.{}", self.claim.name, self.claim.namespace)
    }

    fn tell(&mut self, words: &str) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!("the Lease {} cannot be had: {words}", self.name());
        }
    }

    /// Looks at the Lease, and takes or renews it where that is its due.
    async fn step(&mut self) -> Outcome {
        let outcome = match timeout(LIMIT, self.ask()).await {
            Ok(Ok(())) => Outcome::Fine,
            Ok(Err(kube::Error::Api(status))) => match status.code {
                // Another one was quicker.
                409 => Outcome::Fine,
                401 | 403 => Outcome::Forbidden(status.message.clone()),
                code => Outcome::Failed(format!("status {code}: {}", status.message)),
            },
            Ok(Err(error)) => Outcome::Failed(unreached(&error)),
            Err(_) => Outcome::Failed("it got no answer in time".to_owned()),
        };
        let until = self.election.held_until(Instant::now().into_std());
        self.set(until.map(Instant::from_std));
        outcome
    }

    async fn ask(&mut self) -> Result<(), kube::Error> {
        let found = self.api.get_opt(&self.claim.name).await?;
        let record = found.as_ref().map(Record::of);
        let now = Instant::now();
        let params = PostParams::default();
        match self.election.decide(record.as_ref(), now.into_std()) {
            Move::Wait => return Ok(()),
            Move::Create => self.api.create(&params, &self.document(None, true)).await?,
            Move::Take => {
                let document = self.document(found, true);
                self.api.replace(&self.claim.name, &params, &document).await?
            }
            Move::Renew => {
                let document = self.document(found, false);
                self.api.replace(&self.claim.name, &params, &document).await?
            }
        };
        self.election.won(now.into_std());
        Ok(())
    }

    /// The Lease as it is, held by this process. What others wrote into it stays, and its resource version
    /// has the API server refuse it where it has changed since.
    fn document(&self, found: Option<DynamicObject>, taken: bool) -> DynamicObject {
        let now = now();
        let mut lease = found.unwrap_or_else(|| self.empty());
        let before = lease.data["spec"]["leaseTransitions"].as_i64();
        let spec = &mut lease.data["spec"];
        spec["holderIdentity"] = json!(*self.claim.identity);
        spec["leaseDurationSeconds"] = json!(election::DURATION.as_secs());
        spec["renewTime"] = json!(now);
        if taken {
            spec["acquireTime"] = json!(now);
            spec["leaseTransitions"] = json!(before.map_or(0, |count| count.saturating_add(1)));
        }
        lease
    }

    fn empty(&self) -> DynamicObject {
        let kind = GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease");
        let resource = ApiResource::from_gvk_with_plural(&kind, "leases");
        let mut lease = DynamicObject::new(&self.claim.name, &resource).within(&self.claim.namespace);
        lease.data = json!({"spec": {}});
        lease
    }

    /// Lets the next one have it at once. Where that fails it runs out by itself.
    async fn release(&mut self) {
        if self.election.held_until(Instant::now().into_std()).is_none() {
            return;
        }
        let give_up = async {
            let Some(mut lease) = self.api.get_opt(&self.claim.name).await? else {
                return Ok(());
            };
            if Record::of(&lease).holder != *self.claim.identity {
                return Ok(());
            }
            lease.data["spec"]["holderIdentity"] = json!("");
            lease.data["spec"]["leaseDurationSeconds"] = json!(1);
            lease.data["spec"]["renewTime"] = json!(now());
            let params = PostParams::default();
            self.api.replace(&self.claim.name, &params, &lease).await?;
            Ok::<_, kube::Error>(())
        };
        match timeout(LIMIT, give_up).await {
            Ok(Ok(())) => tracing::info!("let go of the Lease {}", self.name()),
            Ok(Err(error)) => {
                let words = unreached(&error);
                tracing::warn!("the Lease {} is left to run out: {words}", self.name());
            }
            Err(_) => tracing::warn!("the Lease {} is left to run out", self.name()),
        }
    }

    fn set(&self, until: Option<Instant>) {
        let held = self.until.send_replace(until).is_some();
        self.health.writes.note_leads(until.is_some());
        match (held, until.is_some()) {
            (false, true) => tracing::info!("holds the Lease {}: writes status and Events", self.name()),
            (true, false) => tracing::info!("does not hold the Lease {} any more", self.name()),
            _ => {}
        }
    }
}

/// With microseconds, as a Lease has it.
fn now() -> String {
    format!("{:.6}", Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_lease_of_its_own_with_a_name_that_the_api_takes() {
        assert_eq!(lease_name("default"), "nuncio-leader");
        assert_eq!(lease_name("blue"), "nuncio-leader-blue");
        let odd = ["Blue", "blue_", "blue-", "bl.ue", "b\u{e9}", "-"].map(lease_name);
        for name in &odd {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.chars().all(fits) && !name.ends_with('-'), "{name}");
        }
        let distinct: std::collections::HashSet<_> = odd.iter().collect();
        assert_eq!(distinct.len(), odd.len());
        assert!(lease_name(&"x".repeat(1000)).len() < 253);
        assert_ne!(lease_name(&"x".repeat(1000)), lease_name(&"x".repeat(1001)));
    }
}
