//! What is told of a failure: to the client, in the access log, in the admin interface and in the metrics.

use serde_json::Value;

use super::program::Gateway;

/// A failure as an operator should find it told.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The code.
    pub reason: &'a str,
    /// Words that the message holds.
    pub message: &'a [&'a str],
    /// Words that the remedy holds.
    pub remedy: &'a [&'a str],
}

impl Refusal<'_> {
    /// GETs `path` of a Mapping whose upstream fails before it gets the request, and looks at every place
    /// where that is told. Gives the last handshake.
    pub async fn assert_told(self, gateway: &Gateway, mapping: &str, path: &str) -> Value {
        gateway.get(path).await.assert_refused(self.reason);
        self.assert_recorded(gateway, mapping, path).await
    }

    /// The same for a request that was answered already.
    pub async fn assert_recorded(self, gateway: &Gateway, mapping: &str, path: &str) -> Value {
        let entry = gateway.access_log(path).await;
        assert_eq!(
            (&entry["status"], &entry["flags"], &entry["reason"]),
            (&503.into(), &"UF".into(), &self.reason.into()),
            "{entry:#}"
        );
        assert_eq!(entry["mapping"], format!("{mapping}.default"), "{entry:#}");
        assert_holds(&entry["message"], self.message);

        let upstream = gateway.upstream_of(mapping).await;
        assert_eq!(entry["upstream"], upstream["name"], "{entry:#}");
        let handshake = upstream["endpoints"][0]["last_handshake"].clone();
        assert_eq!(handshake["outcome"], self.reason, "{upstream:#}");
        assert_eq!(handshake["message"], entry["message"], "{upstream:#}");
        assert_eq!(
            (&entry["endpoint"], &entry["attempts"]),
            (&upstream["endpoints"][0]["address"], &1.into()),
            "{entry:#}"
        );
        // What was not agreed on is left out.
        for part in ["version", "cipher", "sni"] {
            assert_eq!(entry["upstream_tls"][part], handshake[part], "{entry:#}");
        }
        assert_holds(&handshake["remedy"], self.remedy);
        let counted = upstream["failures"].as_array().unwrap().iter();
        let counted = counted.filter(|failure| failure["reason"] == self.reason).count();
        assert_eq!(counted, 1, "{upstream:#}");

        let labels = [("upstream", name(&upstream)), ("reason", self.reason)];
        assert!(gateway.count("nuncio_upstream_failures_total", &labels).await >= 1.0);
        handshake
    }
}

/// The name of an upstream of the admin interface, which is its label in metrics.
pub fn name(upstream: &Value) -> &str {
    upstream["name"].as_str().unwrap()
}

#[track_caller]
pub fn assert_holds(text: &Value, words: &[&str]) {
    let text = text.as_str().unwrap_or_default();
    assert!(!text.is_empty());
    for word in words {
        assert!(text.contains(word), "no `{word}` in `{text}`");
    }
}

impl Gateway {
    /// The sum of a metric's samples with these labels, whatever else labels them.
    pub async fn count(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        let page = self.admin("/metrics").await;
        let wanted: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let samples = page.text().lines().filter_map(|line| {
            let (labels, value) = line.strip_prefix(metric)?.strip_prefix('{')?.rsplit_once("} ")?;
            let right = wanted.iter().all(|label| labels.contains(label.as_str()));
            right.then(|| value.trim().parse::<f64>().unwrap())
        });
        samples.sum()
    }

    /// The last handshake with the only endpoint of a Mapping's upstream.
    pub async fn last_handshake(&self, mapping: &str) -> Value {
        let upstream = self.upstream_of(mapping).await;
        assert_eq!(
            upstream["endpoints"].as_array().map(Vec::len),
            Some(1),
            "{upstream:#}"
        );
        upstream["endpoints"][0]["last_handshake"].clone()
    }
}
