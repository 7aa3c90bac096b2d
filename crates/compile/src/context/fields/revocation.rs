//! Revocation lists and pins: what narrows down whom a CA may vouch for.
//!
//! Whoever asks for either must not go without it, so whatever cannot be used makes the context unusable.

use std::sync::Arc;

use nuncio_crds::TlsContextSpec;
use nuncio_model::{CrlSet, Pin, Roots, TrustBundle, VerifyMode};

use super::{Reader, Sourced, Verify};

impl Reader<'_, '_> {
    /// `crl_secret`, else `crl_file`.
    pub(super) fn crls(
        &mut self,
        spec: &TlsContextSpec,
        verify: &Verify,
        bundle: Option<&Sourced<Arc<TrustBundle>>>,
        mode: &Sourced<VerifyMode>,
    ) -> Option<Sourced<Arc<CrlSet>>> {
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let (secret, file) = (given(&spec.crl_secret), given(&spec.crl_file));
        let field = if secret.is_some() {
            "spec.crl_secret"
        } else {
            "spec.crl_file"
        };
        if secret.is_some() && file.is_some() {
            let message =
                "`spec.crl_file` has no effect, because `crl_secret` is given as well; keep one of them";
            self.problems
                .warning(self.object, "conflicting_fields", "spec.crl_file", message);
        }
        if secret.is_none() && file.is_none() {
            return None;
        }
        let wants_ca = given(&spec.ca_secret)
            .or(given(&spec.cacert_chain_file))
            .is_some();
        let roots = self.roots_of_lists(field, wants_ca, verify, bundle)?;
        let read = match (secret, file) {
            (Some(secret), _) => {
                let name = self.secret_name(&secret);
                self.materials.crls(&name, &roots, self.problems)
            }
            (None, file) => self.materials.crls_from_file(&file?, &roots),
        };
        match read {
            Ok(read) => {
                self.problems.findings(self.object, field, read.findings);
                self.tell_without_effect(field, "a revoked certificate", verify, mode);
                Some(self.sourced(read.set, field))
            }
            Err(unusable) => {
                self.refuse_unusable(field, &unusable);
                None
            }
        }
    }

    /// What lists are checked against. Without a CA the reference takes them and verifies nothing (D20).
    fn roots_of_lists(
        &mut self,
        field: &str,
        wants_ca: bool,
        verify: &Verify,
        bundle: Option<&Sourced<Arc<TrustBundle>>>,
    ) -> Option<Roots> {
        let system = verify.roots.as_ref().is_some_and(|(text, _)| text == "system");
        if bundle.is_none() && wants_ca {
            // That it cannot be used has been told, and against anything else the lists would look wrong.
            return None;
        }
        if bundle.is_none() && !system {
            let message = format!(
                "`{field}` needs a CA that its lists are checked against, and none is given; set `spec.ca_secret`, or `spec.verify.roots` to system"
            );
            self.refuse("crl_without_ca", field, message);
            return None;
        }
        Some(Roots {
            bundle: bundle.map(|bundle| Arc::clone(&bundle.value)),
            system,
        })
    }

    /// `spec.verify.pins` or its annotation.
    pub(super) fn pins(
        &mut self,
        verify: &Verify,
        mode: &Sourced<VerifyMode>,
    ) -> Option<Sourced<Arc<[Pin]>>> {
        let (texts, field) = verify.pins.as_ref()?;
        let mut pins = Vec::with_capacity(texts.len());
        for text in texts {
            match nuncio_tls::pin(text) {
                Ok(pin) if pins.contains(&pin) => {}
                Ok(pin) => pins.push(pin),
                Err(why) => {
                    let message = format!(
                        "`{field}` has `{text}`, which {why}; write `sha256/` and the base64 of the SHA-256 digest of a SubjectPublicKeyInfo"
                    );
                    self.refuse("bad_value", field, message);
                }
            }
        }
        if texts.is_empty() {
            let message = format!("`{field}` is empty and pins nothing; write a pin or remove it");
            self.refuse("bad_value", field, message);
        }
        if pins.len() == 1 {
            let message = format!(
                "`{field}` has a single pin, so every request fails once the upstream changes its key; add the pin of a backup key"
            );
            self.problems.warning(self.object, "single_pin", field, message);
        }
        self.tell_without_effect(field, "a certificate with another key", verify, mode);
        Some(self.sourced(pins.into(), field))
    }

    /// Tells where a mode refuses nothing that lists or pins would: aloud where the context did not ask for it.
    fn tell_without_effect(&mut self, field: &str, whom: &str, verify: &Verify, mode: &Sourced<VerifyMode>) {
        let asked_for = verify.mode.is_some();
        match mode.value {
            VerifyMode::Chain | VerifyMode::Full => {}
            VerifyMode::Report if asked_for => {}
            VerifyMode::None if asked_for => {
                let message = format!(
                    "`{field}` has no effect, because the verification mode is none; write chain or full to have {whom} refused"
                );
                self.problems
                    .notice(self.object, "check_without_effect", field, message);
            }
            mode_value => {
                let message = format!(
                    "{whom} is let pass in spite of `{field}`, because the verification mode is {} ({}); set `spec.verify.mode` to chain or full to have it refused",
                    mode_value.as_str(),
                    mode.origin
                );
                self.problems
                    .warning(self.object, "check_without_effect", field, message);
            }
        }
    }
}
