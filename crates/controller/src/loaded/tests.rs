//! Row G3: what is kept up to date edit by edit is what a fresh look finds.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use nuncio_compile::LastGood;

use super::*;
use crate::publish::says_the_same;

/// Edits of one run.
const EDITS: usize = 10_000;

/// Edits between two fresh looks.
const STRIDE: usize = 100;

/// Files that there may be.
const FILES: usize = 6;

/// Marsaglia's xorshift: the same edits in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// One object out of few, so that names meet again, in one file or in several.
fn object(dice: &mut Dice) -> String {
    let (name, value) = (dice.below(5), dice.below(3));
    let ours = "apiVersion: getambassador.io/v3alpha1\nkind";
    match dice.below(5) {
        0 => format!(
            "{ours}: Mapping\nmetadata: {{name: m{name}}}\nspec: {{hostname: '*', prefix: /m{name}/, service: 'https://s{value}', tls: c{value}}}\n"
        ),
        1 => format!(
            "{ours}: TLSContext\nmetadata: {{name: c{name}}}\nspec: {{sni: s{value}.test, ca_secret: k{value}}}\n"
        ),
        2 => format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: k{name}}}\nstringData: {{ca.crt: text {value}}}\n"
        ),
        3 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}}}\nspec: {{ports: [{{port: 44{value}}}]}}\n"
        ),
        _ => format!(
            "apiVersion: v1\nkind: Endpoints\nmetadata: {{name: s{name}}}\nsubsets: [{{addresses: [{{ip: 10.0.0.{value}}}], ports: [{{port: 443}}]}}]\n"
        ),
    }
}

fn text(dice: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..=dice.below(4) {
        write!(text, "---\n{}", object(dice)).unwrap();
    }
    text
}

/// One edit; the first file always stays.
fn edit(dice: &mut Dice, file: impl Fn(usize) -> PathBuf) {
    let (one, other) = (dice.below(FILES), 1 + dice.below(FILES - 1));
    match dice.below(6) {
        0 => fs::remove_file(file(other)).unwrap_or_default(),
        1 => fs::rename(file(other), file(one)).unwrap_or_default(),
        // The same bytes again.
        2 => {
            if let Ok(same) = fs::read(file(one)) {
                fs::write(file(one), same).unwrap();
            }
        }
        3 => {
            let new = file(FILES).with_extension("new");
            fs::write(&new, text(dice)).unwrap();
            fs::rename(new, file(one)).unwrap();
        }
        _ => fs::write(file(one), text(dice)).unwrap(),
    }
}

#[test]
fn g3_ten_thousand_edits_leave_what_a_fresh_look_finds() {
    let folder = tempfile::tempdir().unwrap();
    let file = |number: usize| folder.path().join(format!("{number}.yaml"));
    let paths = [folder.path().to_owned()];
    let options = Options::default();
    let mut dice = Dice(0x6e75_6e63_696f);
    fs::write(file(0), text(&mut dice)).unwrap();
    let mut loaded = crate::load(&paths, &options);
    let mut moved = 0;
    for count in 0..EDITS {
        edit(&mut dice, file);
        let before = loaded.objects.clone();
        let changes = loaded.refresh(&|_| false);
        if loaded.objects == before {
            continue;
        }
        moved += 1;
        assert!(changes.any, "edit {count} would not be compiled");
        if changes.only_addresses {
            let same = routing(&before.objects).eq(routing(&loaded.objects.objects));
            assert!(same, "edit {count} changed more than addresses");
        }
        if moved % STRIDE == 0 {
            let fresh = crate::load(&paths, &options);
            assert!(loaded.objects == fresh.objects, "after edit {count}");
            let compiled = |loaded: &Loaded| crate::compile(loaded, &options, &LastGood::default());
            let (ours, theirs) = (compiled(&loaded), compiled(&fresh));
            assert!(
                says_the_same(&ours.snapshot, &theirs.snapshot),
                "after edit {count}"
            );
            assert!(ours.endpoints == theirs.endpoints, "after edit {count}");
        }
    }
    assert!(moved > EDITS / 3, "{moved} edits changed anything");
    let fresh = crate::load(&paths, &options);
    assert!(loaded.objects == fresh.objects, "in the end");
}
