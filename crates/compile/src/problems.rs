//! Collects what is wrong with the objects.

use std::borrow::Cow;

use foldhash::{HashMap, HashMapExt};
use nuncio_model::{ObjectRef, Problem, Severity};
use nuncio_tls::Finding;

use crate::Object;
use crate::inventory::Expanded;

/// Problems in the order they are found.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Problem>,
}

impl Problems {
    /// One more. `field` is a dotted path from the document's root, empty for the object as a whole.
    pub(crate) fn report(
        &mut self,
        severity: Severity,
        object: &Object,
        reason: &'static str,
        field: &str,
        message: impl Into<String>,
    ) {
        let (message, field, told_on) = match &object.annotation {
            // A user can edit the object that carries the annotation.
            Some(annotation) => {
                let message = annotation.words(&object.reference) + &message.into();
                (message, annotation.field(field), &annotation.holder)
            }
            None => (message.into(), field.to_owned(), &object.reference),
        };
        self.found.push(Problem {
            severity,
            reason: Cow::Borrowed(reason),
            message,
            object: Some(told_on.clone()),
            field: Some(field).filter(|field| !field.is_empty()),
            place: object.place.clone(),
        });
    }

    /// The object, or what refers to it, does not work.
    pub(crate) fn error(
        &mut self,
        object: &Object,
        reason: &'static str,
        field: &str,
        message: impl Into<String>,
    ) {
        self.report(Severity::Error, object, reason, field, message);
    }

    /// It is served, but probably not as meant.
    pub(crate) fn warning(
        &mut self,
        object: &Object,
        reason: &'static str,
        field: &str,
        message: impl Into<String>,
    ) {
        self.report(Severity::Warning, object, reason, field, message);
    }

    /// Worth knowing.
    pub(crate) fn notice(
        &mut self,
        object: &Object,
        reason: &'static str,
        field: &str,
        message: impl Into<String>,
    ) {
        self.report(Severity::Notice, object, reason, field, message);
    }

    /// What was found about certificates that can be used.
    pub(crate) fn findings(&mut self, object: &Object, field: &str, findings: Vec<Finding>) {
        for finding in findings {
            self.report(finding.severity, object, finding.reason, field, finding.message);
        }
    }

    /// One that is ready made.
    pub(crate) fn add(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// Those that were found about one object before, or on their own.
    pub(crate) fn extend(&mut self, found: &[Problem]) {
        self.found.extend_from_slice(found);
    }

    /// How many there are so far.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// All of them in the order in which they were found.
    pub(crate) fn found(self) -> Vec<Problem> {
        self.found
    }

    /// One that belongs to no object.
    pub(crate) fn general(&mut self, severity: Severity, reason: &'static str, message: impl Into<String>) {
        self.found.push(Problem {
            severity,
            reason: Cow::Borrowed(reason),
            message: message.into(),
            object: None,
            field: None,
            place: None,
        });
    }

    /// All of them in the order of the objects they are about; those about none come first.
    pub(crate) fn in_order_of(self, objects: &[Expanded<'_>]) -> Vec<Problem> {
        let mut found = self.found;
        if found.len() > 1 {
            let mut position = HashMap::<&ObjectRef, usize>::with_capacity(objects.len());
            for (index, object) in objects.iter().enumerate() {
                position.entry(&object.reference).or_insert(index);
            }
            found.sort_by_key(|problem| problem.object.as_ref().and_then(|object| position.get(object)));
        }
        found
    }
}
