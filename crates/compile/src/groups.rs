//! Groups: Mappings with equal conditions, which share the traffic (B13 to B21).

mod shares;

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use nuncio_model::{Action, Forward, HeaderEdits, Rewrite, Route, RouteMatch, Target, UpstreamIndex};

use crate::Object;
use crate::hashed::Hashed;
use crate::mapping::conditions::{Conditions, HostCondition};
use crate::mapping::reading::Routed;
use crate::problems::Problems;

/// What makes two Mappings one group.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    matches: Hashed<RouteMatch>,
    /// `hostname: "*"` and no hostname at all match alike, but belong to Hosts differently.
    has_host: bool,
    /// Of a Mapping without hostname: the labels by which Hosts select it.
    labels: Vec<(String, String)>,
}

/// A Mapping in its group.
pub(crate) struct Member<'a> {
    pub(crate) object: &'a Object,
    pub(crate) routed: Arc<Routed>,
    /// Its position among all Mappings.
    pub(crate) position: usize,
    /// Where it leads, if it can be resolved.
    pub(crate) upstream: UpstreamIndex,
    /// The route that it had alone in the last compile, if that would come out the same now.
    pub(crate) route_before: Option<Arc<Route>>,
}

/// Which group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupIndex(usize);

/// Collects Mappings in the order in which they are loaded.
pub(crate) struct Groups<'a> {
    index: HashMap<Key, usize>,
    groups: Vec<Group<'a>>,
    /// Labels that Hosts select by.
    selecting: Vec<BTreeMap<String, String>>,
}

/// A group.
pub(crate) struct Group<'a> {
    /// The first member, which has what all have in common (B14).
    lead: Arc<Routed>,
    pub(crate) members: Vec<Member<'a>>,
}

impl<'a> Groups<'a> {
    /// For so many Mappings, which Hosts select by these labels.
    pub(crate) fn new(selecting: Vec<BTreeMap<String, String>>, mappings: usize) -> Self {
        Self {
            index: HashMap::with_capacity(mappings),
            groups: Vec::with_capacity(mappings),
            selecting,
        }
    }

    /// The group for these conditions. Nothing where there is one that differs in what a group must
    /// have in common (B14, B15): the newcomer is not routed then.
    pub(crate) fn join(
        &mut self,
        object: &Object,
        routed: &Arc<Routed>,
        problems: &mut Problems,
    ) -> Option<GroupIndex> {
        let Conditions { matches, host, .. } = &routed.conditions;
        let connect_timeout = routed.connect_timeout;
        let has_host = *host != HostCondition::None;
        let labels = if has_host {
            Vec::new()
        } else {
            self.selected_by(object)
        };
        let next = self.groups.len();
        let index = *self
            .index
            .entry(Key {
                matches: matches.clone(),
                has_host,
                labels,
            })
            .or_insert(next);
        let Some(group) = self.groups.get(index) else {
            self.groups.push(Group {
                lead: Arc::clone(routed),
                members: Vec::new(),
            });
            return Some(GroupIndex(index));
        };
        if group.lead.connect_timeout == connect_timeout {
            return Some(GroupIndex(index));
        }
        let first = group
            .members
            .first()
            .map_or_else(String::new, |member| member.object.reference.to_string());
        let message = format!(
            "`spec.connect_timeout_ms` is {}, but {first} has equal conditions and {}, so this Mapping is not routed; set the same value in both",
            connect_timeout.as_millis(),
            group.lead.connect_timeout.as_millis(),
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
        if let Some(weight) = member.routed.weight.filter(|weight| !(0..=100).contains(weight)) {
            let message = format!(
                "`spec.weight` is {weight}, so it counts as {}; it must be between 0 and 100",
                weight.clamp(0, 100)
            );
            problems.error(member.object, "invalid_weight", "spec.weight", message);
        }
        self.groups[group.0].members.push(member);
    }

    /// All groups in match order: the first whose conditions hold wins (B17).
    pub(crate) fn finish(self, problems: &mut Problems) -> Vec<Group<'a>> {
        let mut groups = self.groups;
        // Stable: what ranks equal keeps the order of loading.
        groups.sort_by(|a, b| b.lead.conditions.rank.cmp(&a.lead.conditions.rank));
        for group in &groups {
            group.check_weights(problems);
        }
        groups
    }
}

impl Group<'_> {
    /// What its Mappings say about the authority.
    pub(crate) fn host(&self) -> &HostCondition {
        &self.lead.conditions.host
    }

    fn check_weights(&self, problems: &mut Problems) {
        let weights: Vec<Option<i64>> = self.members.iter().map(|member| member.routed.weight).collect();
        let total = shares::total(&weights);
        if let [_, _, ..] = self.members.as_slice()
            && total > 100
        {
            let names: Vec<String> = self
                .members
                .iter()
                .map(|member| member.object.reference.qualified())
                .collect();
            for member in self
                .members
                .iter()
                .filter(|member| member.routed.weight.is_some())
            {
                let message = format!(
                    "the weights of {} add up to {total}, so the last of them get less than they ask for; bring the sum down to 100",
                    names.join(", ")
                );
                problems.error(member.object, "invalid_weight", "spec.weight", message);
            }
        }
    }

    /// The route of a Mapping that has the group for itself.
    pub(crate) fn route_before(&self) -> Option<&Arc<Route>> {
        match self.members.as_slice() {
            [only] => only.route_before.as_ref(),
            _ => None,
        }
    }

    /// The route for those of the members whose positions are given.
    pub(crate) fn route(&self, members: &[usize]) -> Route {
        let weights: Vec<Option<i64>> = members
            .iter()
            .map(|&member| self.members[member].routed.weight)
            .collect();
        let mut targets: Vec<Target> = shares::shares(&weights)
            .into_iter()
            .map(|(position, share_end)| self.members[members[position]].target(share_end))
            .collect();
        if targets.len() > 1 {
            share_edits(&mut targets, members, self);
        }
        Route {
            matches: RouteMatch::clone(&self.lead.conditions.matches.value),
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
            action: self.action(),
        }
    }

    fn action(&self) -> Action {
        match &self.routed.action {
            Ok(wanted) => Action::Forward(Box::new(Forward {
                upstream: self.upstream,
                ..wanted.forward.clone()
            })),
            Err(unresolved) => Action::Unresolved(unresolved.clone()),
        }
    }

    fn forward(&self) -> Option<&Forward> {
        self.routed.action.as_ref().ok().map(|wanted| &wanted.forward)
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
        if member.routed.has_retry_policy {
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
