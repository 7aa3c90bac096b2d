//! Routes that share authority and path, found by method, header values and parameter values.
//!
//! Routes whose conditions name the same things have the same shape, such as "a method and the value of
//! `x-tenant`". Within a shape the values asked for are one hash, and one look-up finds the routes.
//! Shapes are few as a rule; where there are many, the names of the request's headers find them.

use std::collections::HashMap;
use std::hash::Hasher;
use std::sync::Arc;

use http::HeaderValue;
use http::header::{self, HeaderName};

use super::conditions::{HeaderText, parameter};
use super::hash::{Fnv, Table};
use super::search::{FEW, NEVER, Rank, Ranked, Search, Searched};
use crate::{MethodMatch, RequestHead, Route, RouteMatch, ValueMatch};

/// Up to so many shapes are looked at one after the other.
const FEW_SHAPES: usize = 8;

/// Routes among which only method, headers and parameters are left to decide.
#[derive(Debug)]
pub(super) enum Bucket {
    Few(Box<[Rank]>),
    Many(Box<Shapes>),
}

#[derive(Debug)]
pub(super) struct Shapes {
    /// Best first.
    shapes: Box<[Shape]>,
    names: Option<ShapeNames>,
}

/// Positions of shapes by one header that each of them needs.
#[derive(Debug)]
struct ShapeNames {
    by_header: Table<HeaderName, Vec<u32>>,
    without: Vec<u32>,
}

#[derive(Debug)]
struct Shape {
    key: ShapeKey,
    routes: Table<u64, Box<[Rank]>>,
    least: Rank,
}

/// What the conditions of a route name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ShapeKey {
    exact_method: bool,
    exact_headers: Box<[HeaderName]>,
    exact_parameters: Box<[Arc<str>]>,
    /// Needed in whatever form.
    other_headers: Box<[HeaderName]>,
}

impl Bucket {
    /// `ranks` ascend.
    pub(super) fn new(ranks: Vec<Rank>, routes: &[Arc<Route>]) -> Self {
        if ranks.len() <= FEW {
            Self::Few(ranks.into())
        } else {
            Self::Many(Box::new(Shapes::new(&ranks, routes)))
        }
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Self::Few(Box::default())
    }
}

impl Ranked for Bucket {
    fn least(&self) -> Rank {
        match self {
            Self::Few(ranks) => ranks.least(),
            Self::Many(shapes) => shapes.shapes.first().map_or(NEVER, Ranked::least),
        }
    }
}

impl Searched for Bucket {
    fn search(&self, search: &mut Search<'_>) {
        match self {
            Self::Few(ranks) => search.try_each(ranks),
            Self::Many(shapes) => shapes.search(search),
        }
    }
}

impl Shapes {
    fn new(ranks: &[Rank], routes: &[Arc<Route>]) -> Self {
        let mut grouped = HashMap::<ShapeKey, Vec<Rank>>::new();
        for &rank in ranks {
            grouped
                .entry(ShapeKey::of(&routes[rank as usize].matches))
                .or_default()
                .push(rank);
        }
        let mut shapes: Box<[Shape]> = grouped
            .into_iter()
            .map(|(key, ranks)| Shape::new(key, &ranks, routes))
            .collect();
        shapes.sort_unstable_by_key(Ranked::least);
        let names = (shapes.len() > FEW_SHAPES).then(|| ShapeNames::new(&shapes));
        Self { shapes, names }
    }

    fn search(&self, search: &mut Search<'_>) {
        match &self.names {
            None => self.shapes.iter().for_each(|shape| search.consider(shape)),
            Some(names) => {
                let present = search.head.headers.keys();
                let by_header = present.filter_map(|name| names.by_header.get(name)).flatten();
                for &shape in names.without.iter().chain(by_header) {
                    search.consider(&self.shapes[shape as usize]);
                }
            }
        }
    }
}

impl ShapeNames {
    /// Each shape stands under the header that the fewest shapes need.
    fn new(shapes: &[Shape]) -> Self {
        let mut needs = HashMap::<&HeaderName, usize>::new();
        for name in shapes.iter().flat_map(|shape| shape.key.headers()) {
            *needs.entry(name).or_default() += 1;
        }
        let mut names = Self {
            by_header: Table::default(),
            without: Vec::new(),
        };
        for (position, shape) in (0..).zip(shapes) {
            match shape.key.headers().min_by_key(|name| needs[name]) {
                Some(name) => names.by_header.entry(name.clone()).or_default().push(position),
                None => names.without.push(position),
            }
        }
        names
    }
}

impl Shape {
    fn new(key: ShapeKey, ranks: &[Rank], routes: &[Arc<Route>]) -> Self {
        let mut values = Table::<u64, Vec<Rank>>::default();
        for &rank in ranks {
            values
                .entry(hash_of_conditions(&routes[rank as usize].matches))
                .or_default()
                .push(rank);
        }
        Self {
            key,
            routes: values
                .into_iter()
                .map(|(hash, ranks)| (hash, ranks.into()))
                .collect(),
            least: ranks.least(),
        }
    }
}

impl Ranked for Shape {
    fn least(&self) -> Rank {
        self.least
    }
}

impl Searched for Shape {
    fn search(&self, search: &mut Search<'_>) {
        let hash = self.key.hash_of_request(search.head);
        if let Some(ranks) = hash.and_then(|hash| self.routes.get(&hash)) {
            search.try_each(ranks);
        }
    }
}

impl ShapeKey {
    fn of(matches: &RouteMatch) -> Self {
        let others = matches
            .headers
            .iter()
            .filter(|header| !matches!(header.value, ValueMatch::Exact(_)));
        Self {
            exact_method: exact_method(matches).is_some(),
            exact_headers: exact_headers(matches).map(|(name, _)| name.clone()).collect(),
            exact_parameters: exact_parameters(matches)
                .map(|(name, _)| Arc::clone(name))
                .collect(),
            other_headers: others.map(|header| header.name.clone()).collect(),
        }
    }

    /// Headers that a request of this shape has for certain. `host` may come by another way.
    fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.exact_headers
            .iter()
            .chain(&self.other_headers)
            .filter(|&name| name != header::HOST)
    }

    /// Agrees with [`hash_of_conditions`] when the request has the values that are asked for.
    fn hash_of_request(&self, head: &RequestHead<'_>) -> Option<u64> {
        let mut hash = Fnv::default();
        if self.exact_method {
            hash.write(head.method.as_str().as_bytes());
            hash.boundary();
        }
        for name in &self.exact_headers {
            let text = HeaderText::of(head, name);
            let mut values = text.values();
            hash.write(values.next()?);
            for value in values {
                hash.write(b",");
                hash.write(value);
            }
            hash.boundary();
        }
        for name in &self.exact_parameters {
            hash.write(parameter(head.query, name)?.as_bytes());
            hash.boundary();
        }
        Some(hash.finish())
    }
}

fn hash_of_conditions(matches: &RouteMatch) -> u64 {
    let method = exact_method(matches).map(|method| method.as_str().as_bytes());
    let headers = exact_headers(matches).map(|(_, value)| value.as_bytes());
    let parameters = exact_parameters(matches).map(|(_, value)| value.as_bytes());
    let mut hash = Fnv::default();
    for value in method.into_iter().chain(headers).chain(parameters) {
        hash.write(value);
        hash.boundary();
    }
    hash.finish()
}

fn exact_method(matches: &RouteMatch) -> Option<&http::Method> {
    match &matches.method {
        Some(MethodMatch::Exact(method)) => Some(method),
        Some(MethodMatch::Regex(_)) | None => None,
    }
}

fn exact_headers(matches: &RouteMatch) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    matches.headers.iter().filter_map(|header| match &header.value {
        ValueMatch::Exact(value) => Some((&header.name, value)),
        ValueMatch::Present | ValueMatch::Regex(_) => None,
    })
}

fn exact_parameters(matches: &RouteMatch) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
    matches
        .query
        .iter()
        .filter_map(|parameter| match &parameter.value {
            ValueMatch::Exact(value) => Some((&parameter.name, value)),
            ValueMatch::Present | ValueMatch::Regex(_) => None,
        })
}
