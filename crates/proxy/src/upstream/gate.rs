//! Lets so many in at once, and the others in turn.

use std::cell::Cell;

use tokio::sync::Notify;

/// A worker's gate to something dear, such as the handshakes with one upstream.
#[derive(Default)]
pub(crate) struct Gate {
    inside: Cell<usize>,
    left: Notify,
}

/// The right to be inside.
pub(crate) struct Pass<'a>(&'a Gate);

impl Gate {
    /// Waits until fewer than `most` are inside. Who waits longest is next.
    pub(crate) async fn enter(&self, most: usize) -> Pass<'_> {
        while self.inside.get() >= most {
            self.left.notified().await;
        }
        self.inside.set(self.inside.get() + 1);
        Pass(self)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_than_so_many_are_inside() {
        let gate = Gate::default();
        let most = Cell::new(0);
        let visit = || async {
            let _pass = gate.enter(2).await;
            most.set(most.get().max(gate.inside.get()));
            tokio::task::yield_now().await;
        };
        tokio::join!(visit(), visit(), visit(), visit(), visit());
        assert_eq!((most.get(), gate.inside.get()), (2, 0));
    }
}
