use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use futures_util::FutureExt;
use proptest::prelude::*;

use crate::{
    Result,
    state::{
        node::Node,
        trie::{self, Changes, Difference, NewNodes, Nodes},
    },
    tables::{EventNumber, NodeNumber, StateKeyNumber, StateRoot},
};

/// Nodes in memory, which count how often they are read.
#[derive(Default)]
struct Kept {
    nodes: HashMap<NodeNumber, Vec<u8>>,
    reads: Mutex<usize>,
}

impl Nodes for Kept {
    async fn load(&self, numbers: &[NodeNumber]) -> Result<Vec<Arc<Node>>> {
        *self.reads.lock().unwrap() += numbers.len();
        numbers.iter().map(|number| Ok(Arc::new(Node::from_bytes(&self.nodes[number])?))).collect()
    }
}

#[derive(Default)]
struct Tree {
    kept: Kept,
    next: NodeNumber,
}

impl Tree {
    fn new() -> Self {
        Self { kept: Kept::default(), next: NodeNumber::new(1) }
    }

    /// Gives the new root, and how many bytes were added.
    fn update(&mut self, root: StateRoot, changes: &Changes) -> (StateRoot, usize) {
        let mut new = NewNodes::new(self.next);
        let root = now(trie::update(&self.kept, &mut new, root, changes));
        self.next = new.next;
        let mut bytes = 0;
        for (number, node) in new.made {
            let encoded = node.to_bytes();
            bytes += 2 + 8 + 8 + encoded.len();
            self.kept.nodes.insert(number, encoded);
        }
        (root, bytes)
    }

    fn walk(&self, root: StateRoot) -> BTreeMap<u64, u64> {
        let entries = now(trie::walk(&self.kept, root));
        entries.into_iter().map(|(key, event)| (key.get(), event.get())).collect()
    }

    fn reads(&self, of: impl FnOnce(&Self)) -> usize {
        *self.kept.reads.lock().unwrap() = 0;
        of(self);
        *self.kept.reads.lock().unwrap()
    }
}

fn now<T>(future: impl Future<Output = Result<T>>) -> T {
    future.now_or_never().unwrap().unwrap()
}

fn changes(of: impl IntoIterator<Item = (u64, Option<u64>)>) -> Changes {
    of.into_iter()
        .map(|(key, event)| (StateKeyNumber::new(key), event.map(EventNumber::new)))
        .collect()
}

#[test]
fn an_empty_tree_has_nothing() {
    let tree = Tree::new();
    assert!(tree.walk(StateRoot::EMPTY).is_empty());
    let found = now(trie::find(&tree.kept, StateRoot::EMPTY, &[StateKeyNumber::new(3)]));
    assert_eq!(found, vec![None]);
    assert!(now(trie::diff(&tree.kept, StateRoot::EMPTY, StateRoot::EMPTY)).is_empty());
}

#[test]
fn a_change_that_changes_nothing_gives_the_same_root() {
    let mut tree = Tree::new();
    let (root, _) = tree.update(StateRoot::EMPTY, &changes([(1, Some(1)), (70, Some(2))]));
    assert_eq!(tree.update(root, &changes([(70, Some(2))])), (root, 0));
    assert_eq!(tree.update(root, &changes([(5000, None)])), (root, 0));
    assert_eq!(tree.update(root, &Changes::new()), (root, 0));
}

#[test]
fn a_tree_grows_over_untouched_branches() {
    let mut tree = Tree::new();
    let (low, _) = tree.update(StateRoot::EMPTY, &changes([(1, Some(1))]));
    let (high, _) = tree.update(low, &changes([(40_000, Some(2))]));
    assert_eq!(tree.walk(high), BTreeMap::from([(1, 1), (40_000, 2)]));
    let (shrunk, _) = tree.update(high, &changes([(40_000, None)]));
    assert_eq!(shrunk, low);
    let (empty, _) = tree.update(shrunk, &changes([(1, None)]));
    assert_eq!(empty, StateRoot::EMPTY);
}

#[test]
fn one_more_event_in_a_large_room_takes_less_than_a_kibibyte() {
    let mut tree = Tree::new();
    let members = (0..10_000).map(|key| (key, Some(1_000_000 + key)));
    let (root, _) = tree.update(StateRoot::EMPTY, &changes(members));
    for (key, event) in [(5, 2_000_000), (9_999, 2_000_001), (10_000, 2_000_002)] {
        let (_, bytes) = tree.update(root, &changes([(key, Some(event))]));
        assert!(bytes <= 1024, "{bytes} bytes for one change at {key}");
    }
}

#[test]
fn shared_nodes_are_not_looked_at() {
    let mut tree = Tree::new();
    let (from, _) = tree.update(StateRoot::EMPTY, &changes((0..10_000).map(|k| (k, Some(k + 1)))));
    let (to, _) = tree.update(from, &changes([(7_777, Some(99_999))]));
    let reads = tree.reads(|tree| {
        let difference = now(trie::diff(&tree.kept, from, to));
        let (key, event) = (StateKeyNumber::new(7_777), EventNumber::new);
        let expected = Difference { key, from: Some(event(7_778)), to: Some(event(99_999)) };
        assert_eq!(difference, vec![expected]);
    });
    assert!(reads <= 8, "{reads} nodes read for one difference");
    let reads = tree.reads(|tree| {
        now(trie::find(&tree.kept, to, &[StateKeyNumber::new(7_777)]));
    });
    assert_eq!(reads, 3);
}

/// Times on a busy machine say little; these are far above what it takes, and far below what a slip
/// would.
#[test]
fn a_large_state_is_read_quickly() {
    let mut tree = Tree::new();
    let (root, _) = tree.update(StateRoot::EMPTY, &changes((0..10_000).map(|k| (k, Some(k + 1)))));
    let begin = std::time::Instant::now();
    assert_eq!(tree.walk(root).len(), 10_000);
    assert!(begin.elapsed().as_millis() < 200, "{:?} for a whole state", begin.elapsed());
}

/// Some steps, each a set of changes. Keys are low as a rule, since rooms number them from 0.
fn steps() -> impl Strategy<Value = Vec<BTreeMap<u64, Option<u64>>>> {
    let key = prop_oneof![4 => 0..40_u64, 2 => 0..1_200_u64, 1 => 0..40_000_u64];
    let event = prop_oneof![3 => (1..10_000_u64).prop_map(Some), 1 => Just(None)];
    prop::collection::vec(prop::collection::btree_map(key, event, 1..20), 1..25)
}

proptest! {
    #[test]
    fn every_version_of_a_tree_agrees_with_its_model(steps in steps()) {
        let mut tree = Tree::new();
        let mut versions = vec![(StateRoot::EMPTY, BTreeMap::new())];
        for step in &steps {
            let (root, mut model) = versions.last().cloned().unwrap();
            for (key, event) in step {
                match event {
                    Some(event) => drop(model.insert(*key, *event)),
                    None => drop(model.remove(key)),
                }
            }
            let (root, _) = tree.update(root, &changes(step.clone()));
            versions.push((root, model));
        }
        for (root, model) in &versions {
            prop_assert_eq!(&tree.walk(*root), model);
            prop_assert_eq!(*root == StateRoot::EMPTY, model.is_empty());
            let some = (0..100).chain([1_199, 39_999]);
            let asked: Vec<u64> = some.chain(model.keys().copied()).collect();
            let keys: Vec<_> = asked.iter().copied().map(StateKeyNumber::new).collect();
            let found = now(trie::find(&tree.kept, *root, &keys));
            for (key, found) in asked.iter().zip(found) {
                prop_assert_eq!(found.map(EventNumber::get), model.get(key).copied());
            }
        }
        for ((from, before), (to, after)) in versions.iter().zip(versions.iter().rev()) {
            let mut patched = before.clone();
            for difference in now(trie::diff(&tree.kept, *from, *to)) {
                let key = difference.key.get();
                prop_assert_ne!(difference.from, difference.to);
                prop_assert_eq!(difference.from.map(EventNumber::get), before.get(&key).copied());
                match difference.to {
                    Some(event) => drop(patched.insert(key, event.get())),
                    None => drop(patched.remove(&key)),
                }
            }
            prop_assert_eq!(&patched, after);
        }
    }

    #[test]
    fn a_node_survives_its_encoding(
        slots in prop::collection::btree_map(0..32_u32, any::<u64>(), 0..32),
    ) {
        let mut node = Node::empty(2);
        for (slot, value) in &slots {
            node.set(*slot, Some(*value));
        }
        let read = Node::from_bytes(&node.to_bytes()).unwrap();
        prop_assert_eq!(&read, &node);
        prop_assert_eq!(read.iter().collect::<BTreeMap<_, _>>(), slots);
    }

    #[test]
    fn no_bytes_make_a_node_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = Node::from_bytes(&bytes);
    }
}
