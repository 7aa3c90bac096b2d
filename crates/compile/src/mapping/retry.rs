//! `retry_policy`: when a request is sent again (B.9).
//!
//! A policy that cannot be read leaves the Mapping without one. That is safe, for the request is then sent once.

use std::time::Duration;

use nuncio_crds::RetryPolicySpec;
use nuncio_model::{RetryOn, RetryPolicy};

use crate::problems::Problems;
use crate::{Object, decode};

/// Most retries of one request: a typing error must not become an attack on the upstream.
const MOST_RETRIES: u32 = 100;

/// Reads the policy that stands in `field` of `object`; none where a request is sent only once.
pub(crate) fn read(
    object: &Object,
    field: &str,
    spec: &RetryPolicySpec,
    problems: &mut Problems,
) -> Option<RetryPolicy> {
    // All of it is read before any of it is left out, so that every problem is told at once.
    let on = retry_on(object, field, spec.retry_on.as_deref(), problems);
    let retries = num_retries(object, field, spec.num_retries, problems);
    let per_try_timeout = per_try_timeout(object, field, spec.per_try_timeout.as_deref(), problems);
    let policy = RetryPolicy {
        on: on?,
        retries,
        per_try_timeout,
    };
    (policy.retries > 0).then_some(policy)
}

fn retry_on(object: &Object, field: &str, text: Option<&str>, problems: &mut Problems) -> Option<RetryOn> {
    let field = format!("{field}.retry_on");
    let names = RetryOn::ALL.map(|on| on.as_str().to_owned());
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        let message = format!(
            "`{field}` is missing, so no request is sent again; write one of {}",
            names.join(", ")
        );
        problems.error(object, "missing_field", &field, message);
        return None;
    };
    let on = RetryOn::ALL.into_iter().find(|on| on.as_str() == text);
    match on {
        None => {
            let hint = match decode::nearest(text, &names) {
                _ if text.contains(',') => "write one of them".to_owned(),
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write one of {}", names.join(", ")),
            };
            let message = format!("`{field}` is `{text}`, so no request is sent again; {hint}");
            problems.error(object, "bad_value", &field, message);
        }
        Some(RetryOn::RetriableStatusCodes) => {
            let message = format!(
                "`{field}` is `{text}`, but no field says which codes these are, so no request is sent again; write 5xx, gateway-error or retriable-4xx"
            );
            problems.warning(object, "no_effect", &field, message);
        }
        Some(_) => {}
    }
    on
}

fn num_retries(object: &Object, field: &str, value: Option<i64>, problems: &mut Problems) -> u32 {
    const DEFAULT: u32 = 1;
    let Some(value) = value else { return DEFAULT };
    let checked = u32::try_from(value)
        .ok()
        .filter(|retries| *retries <= MOST_RETRIES);
    checked.unwrap_or_else(|| {
        let field = format!("{field}.num_retries");
        let message =
            format!("`{field}` is {value}, so the default of 1 is used; it must be from 0 to {MOST_RETRIES}");
        problems.error(object, "bad_value", &field, message);
        DEFAULT
    })
}

fn per_try_timeout(
    object: &Object,
    field: &str,
    text: Option<&str>,
    problems: &mut Problems,
) -> Option<Duration> {
    let text = text.filter(|text| !text.is_empty())?;
    match duration(text) {
        Some(limit) => Some(limit).filter(|limit| !limit.is_zero()),
        None => {
            let field = format!("{field}.per_try_timeout");
            let message = format!(
                "`{field}` is `{text}`, so each attempt has the whole `timeout_ms`; write a number and a unit, such as 250ms or 1.5s"
            );
            problems.error(object, "bad_value", &field, message);
            None
        }
    }
}

/// `1.5s`, and with other units what people write for Kubernetes.
fn duration(text: &str) -> Option<Duration> {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let (number, unit) = text.split_at(text.find(|c| !digits(c))?);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("1.5s", 1500),
            ("0.25s", 250),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        let too_many = format!("{}h", "9".repeat(400));
        for text in [
            "", "s", "5", "5 s", "-1s", "1s500ms", "1.2.3s", "5d", "\u{664}s", &too_many,
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
