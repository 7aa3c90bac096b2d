//! Groups: Mappings with equal conditions, which share the traffic (B13 to B21).

mod shares;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use nuncio_crds::MappingSpec;
use nuncio_model::{Action, Forward, HeaderEdits, Rewrite, Route, RouteMatch, Target};

use crate::Object;
use crate::mapping::conditions::{Conditions, HostCondition, Rank};
use crate::problems::Problems;

/// What makes two Mappings one group.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    matches: RouteMatch,
    /// `hostname: "*"` and no hostname at all match alike, but belong to Hosts differently.
    has_host: bool,
    /// Of a Mapping without hostname: the labels by which Hosts select it.
    labels: Vec<(String, String)>,
}

/// A Mapping in its group.
pub(crate) struct Member<'a> {
    pub(crate) object: &'a Object,
    weight: Option<i64>,
    /// It has a policy of its own, not the Module's.
    has_retry_policy: bool,
    action: Action,
}

impl<'a> Member<'a> {
    pub(crate) fn new(object: &'a Object, spec: &MappingSpec, action: Action) -> Self {
        Self {
            object,
            weight: spec.weight,
            has_retry_policy: spec.retry_policy.is_some(),
            action,
        }
    }
}

/// A group, still without its conditions.
struct Body<'a> {
    host: HostCondition,
    rank: Rank,
    /// Of the first member, and so of all (B14).
    connect_timeout: Duration,
    members: Vec<Member<'a>>,
}

/// Which group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupIndex(usize);

/// Collects Mappings in the order in which they are loaded.
#[derive(Default)]
pub(crate) struct Groups<'a> {
    index: HashMap<Key, usize>,
    bodies: Vec<Body<'a>>,
    /// Labels that Hosts select by.
    selecting: Vec<BTreeMap<String, String>>,
}

/// A group with everything.
pub(crate) struct Group<'a> {
    matches: RouteMatch,
    pub(crate) host: HostCondition,
    pub(crate) members: Vec<Member<'a>>,
}

impl<'a> Groups<'a> {
    /// For Mappings that Hosts select by these labels.
    pub(crate) fn new(selecting: Vec<BTreeMap<String, String>>) -> Self {
        Self {
            selecting,
            ..Self::default()
        }
    }

    /// The group for these conditions. Nothing where there is one that differs in what a group must
    /// have in common (B14, B15): the newcomer is not routed then.
    pub(crate) fn join(
        &mut self,
        object: &Object,
        conditions: Conditions,
        connect_timeout: Duration,
        problems: &mut Problems,
    ) -> Option<GroupIndex> {
        let Conditions { matches, host, rank } = conditions;
        let has_host = host != HostCondition::None;
        let labels = if has_host {
            Vec::new()
        } else {
            self.selected_by(object)
        };
        let next = self.bodies.len();
        let index = *self
            .index
            .entry(Key {
                matches,
                has_host,
                labels,
            })
            .or_insert(next);
        let Some(body) = self.bodies.get(index) else {
            self.bodies.push(Body {
                host,
                rank,
                connect_timeout,
                members: Vec::new(),
            });
            return Some(GroupIndex(index));
        };
        if body.connect_timeout == connect_timeout {
            return Some(GroupIndex(index));
        }
        let first = body
            .members
            .first()
            .map_or_else(String::new, |member| member.object.reference.to_string());
        let message = format!(
            "`spec.connect_timeout_ms` is {}, but {first} has equal conditions and {}, so this Mapping is not routed; set the same value in both",
            connect_timeout.as_millis(),
            body.connect_timeout.as_millis(),
        );
        problems.error(object, "mismatched_group", "spec.connect_timeout_ms", message);
        None
    }

    fn selected_by(&self, object: &Object) -> Vec<(String, String)> {
        let mut labels: Vec<_> = self
            .selecting
            .iter()
            .filter(|selector| {
                selector
                    .iter()
                    .all(|(key, value)| object.labels.get(key) == Some(value))
            })
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        labels.sort();
        labels.dedup();
        labels
    }

    /// One more member of a group.
    pub(crate) fn add(&mut self, group: GroupIndex, member: Member<'a>, problems: &mut Problems) {
        if let Some(weight) = member.weight.filter(|weight| !(0..=100).contains(weight)) {
            let message = format!(
                "`spec.weight` is {weight}, so it counts as {}; it must be between 0 and 100",
                weight.clamp(0, 100)
            );
            problems.error(member.object, "invalid_weight", "spec.weight", message);
        }
        self.bodies[group.0].members.push(member);
    }

    /// All groups in match order: the first whose conditions hold wins (B17).
    pub(crate) fn finish(self, problems: &mut Problems) -> Vec<Group<'a>> {
        let mut matches: Vec<Option<RouteMatch>> = self.bodies.iter().map(|_| None).collect();
        for (key, index) in self.index {
            matches[index] = Some(key.matches);
        }
        let mut ranked: Vec<(Reverse<Rank>, Group<'a>)> = self
            .bodies
            .into_iter()
            .zip(matches)
            .filter_map(
                |(
                    Body {
                        host, rank, members, ..
                    },
                    matches,
                )| {
                    Some((
                        Reverse(rank),
                        Group {
                            matches: matches?,
                            host,
                            members,
                        },
                    ))
                },
            )
            .collect();
        // Stable: what ranks equal keeps the order of loading.
        ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
        let groups: Vec<Group<'a>> = ranked.into_iter().map(|(_, group)| group).collect();
        for group in &groups {
            group.check_weights(problems);
        }
        groups
    }
}

impl Group<'_> {
    fn check_weights(&self, problems: &mut Problems) {
        let weights: Vec<Option<i64>> = self.members.iter().map(|member| member.weight).collect();
        let total = shares::total(&weights);
        if let [_, _, ..] = self.members.as_slice()
            && total > 100
        {
            let names: Vec<String> = self
                .members
                .iter()
                .map(|member| member.object.reference.qualified())
                .collect();
            for member in self.members.iter().filter(|member| member.weight.is_some()) {
                let message = format!(
                    "the weights of {} add up to {total}, so the last of them get less than they ask for; bring the sum down to 100",
                    names.join(", ")
                );
                problems.error(member.object, "invalid_weight", "spec.weight", message);
            }
        }
    }

    /// The route for those of the members whose positions are given.
    pub(crate) fn route(&self, members: &[usize]) -> Route {
        let weights: Vec<Option<i64>> = members
            .iter()
            .map(|&member| self.members[member].weight)
            .collect();
        let mut targets: Vec<Target> = shares::shares(&weights)
            .into_iter()
            .map(|(position, share_end)| self.members[members[position]].target(share_end))
            .collect();
        if targets.len() > 1 {
            share_edits(&mut targets, members, self);
        }
        Route {
            matches: self.matches.clone(),
            targets,
        }
    }
}

impl Member<'_> {
    fn target(&self, share_end: u8) -> Target {
        Target {
            mapping: self.object.reference.clone(),
            label: self.object.reference.qualified().into(),
            share_end,
            action: self.action.clone(),
        }
    }

    fn forward(&self) -> Option<&Forward> {
        match &self.action {
            Action::Forward(forward) => Some(forward),
            Action::Unresolved(_) => None,
        }
    }
}

/// Headers, upgrades, `retry_policy` and `regex_rewrite` hold for the group as a whole (B16): of two
/// members that set the same, the one that is loaded later counts.
fn share_edits(targets: &mut [Target], members: &[usize], group: &Group<'_>) {
    let mut request = HeaderEdits::default();
    let mut response = HeaderEdits::default();
    let mut upgrades: &[Arc<str>] = &[];
    let mut regex_rewrite = None;
    let mut retry = None;
    for (member, forward) in members.iter().filter_map(|&member| {
        let member = &group.members[member];
        Some((member, member.forward()?))
    }) {
        if member.has_retry_policy {
            retry = Some(&forward.retry);
        }
        overlay(&mut request, &forward.request_headers);
        overlay(&mut response, &forward.response_headers);
        if !forward.allow_upgrade.is_empty() {
            upgrades = &forward.allow_upgrade;
        }
        if let Rewrite::Regex { .. } = forward.rewrite {
            regex_rewrite = Some(&forward.rewrite);
        }
    }
    for target in targets {
        if let Action::Forward(forward) = &mut target.action {
            forward.request_headers = request.clone();
            forward.response_headers = response.clone();
            forward.allow_upgrade = upgrades.to_vec();
            if let Some(retry) = retry {
                forward.retry.clone_from(retry);
            }
            if let Some(rewrite) = regex_rewrite {
                forward.rewrite = rewrite.clone();
            }
        }
    }
}

fn overlay(edits: &mut HeaderEdits, later: &HeaderEdits) {
    edits
        .add
        .retain(|addition| later.add.iter().all(|new| new.name != addition.name));
    edits.add.extend(later.add.iter().cloned());
    if !later.remove.is_empty() {
        edits.remove.clone_from(&later.remove);
    }
}
