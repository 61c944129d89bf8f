//! The persistent trie from state keys to events: look-ups, changes, differences.
//!
//! All walks go level by level, so that each level costs one read of many nodes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    error::{Result, RoomsError},
    state::node::{BITS, HEIGHT_MAX, Node},
    tables::{EventNumber, NodeNumber, StateKeyNumber, StateRoot},
};

/// Where nodes are read from.
pub(crate) trait Nodes {
    /// The nodes of these numbers, in order. Each must exist.
    fn load(&self, numbers: &[NodeNumber]) -> impl Future<Output = Result<Vec<Arc<Node>>>> + Send;
}

/// New nodes on their way to the store.
#[derive(Debug)]
pub(crate) struct NewNodes {
    /// The number that the next node gets.
    pub(crate) next: NodeNumber,
    /// The nodes made so far.
    pub(crate) made: HashMap<NodeNumber, Arc<Node>>,
}

impl NewNodes {
    pub(crate) fn new(next: NodeNumber) -> Self {
        Self { next, made: HashMap::new() }
    }

    fn add(&mut self, node: Node) -> NodeNumber {
        let number = self.next;
        self.next = number.next();
        self.made.insert(number, Arc::new(node));
        number
    }
}

/// What a state says of the keys: an event, or nothing.
pub(crate) type Changes = BTreeMap<StateKeyNumber, Option<EventNumber>>;

const EMPTY: NodeNumber = NodeNumber::new(0);

fn slot(key: u64, height: u8) -> u32 {
    ((key >> (BITS * u32::from(height))) & 31) as u32
}

/// The number of the subtree of this height that a key is in.
fn prefix(key: u64, height: u8) -> u64 {
    key >> (BITS * (u32::from(height) + 1))
}

fn damaged() -> RoomsError {
    RoomsError::BadRow { why: "a state tree" }
}

/// Nodes by number, each read once.
async fn load_map<N: Nodes + Sync>(
    nodes: &N,
    mut numbers: Vec<NodeNumber>,
) -> Result<HashMap<NodeNumber, Arc<Node>>> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers.retain(|number| *number != EMPTY);
    if numbers.is_empty() {
        return Ok(HashMap::new());
    }
    let loaded = nodes.load(&numbers).await?;
    Ok(numbers.into_iter().zip(loaded).collect())
}

async fn load_one<N: Nodes + Sync>(nodes: &N, number: NodeNumber) -> Result<Arc<Node>> {
    nodes.load(&[number]).await?.pop().ok_or_else(damaged)
}

/// The event at each of the keys, in order.
pub(crate) async fn find<N: Nodes + Sync>(
    nodes: &N,
    root: StateRoot,
    keys: &[StateKeyNumber],
) -> Result<Vec<Option<EventNumber>>> {
    let mut at: Vec<Option<NodeNumber>> = vec![None; keys.len()];
    if root == EMPTY || keys.is_empty() {
        return Ok(vec![None; keys.len()]);
    }
    let top = load_one(nodes, root).await?;
    for (key, at) in keys.iter().zip(&mut at) {
        *at = (prefix(key.get(), top.height) == 0).then_some(root);
    }
    let mut height = top.height;
    let mut level = HashMap::from([(root, top)]);
    loop {
        for (key, at) in keys.iter().zip(&mut at) {
            let node = at.and_then(|number| level.get(&number));
            let value = node.and_then(|node| node.get(slot(key.get(), height)));
            *at = value.map(NodeNumber::new);
        }
        let Some(below) = height.checked_sub(1) else { break };
        height = below;
        level = load_map(nodes, at.iter().flatten().copied().collect()).await?;
    }
    Ok(at.into_iter().map(|value| value.map(|number| EventNumber::new(number.get()))).collect())
}

/// Stored nodes, and above them those on their way to the store.
pub(crate) struct Overlay<'a, N> {
    pub(crate) base: &'a N,
    pub(crate) new: &'a NewNodes,
}

impl<N: Nodes + Sync> Nodes for Overlay<'_, N> {
    async fn load(&self, numbers: &[NodeNumber]) -> Result<Vec<Arc<Node>>> {
        let stored: Vec<NodeNumber> =
            numbers.iter().copied().filter(|n| !self.new.made.contains_key(n)).collect();
        let mut stored = if stored.is_empty() {
            Vec::new().into_iter()
        } else {
            self.base.load(&stored).await?.into_iter()
        };
        let find = |number| self.new.made.get(number).cloned().or_else(|| stored.next());
        numbers.iter().map(find).collect::<Option<Vec<_>>>().ok_or_else(damaged)
    }
}

/// A tree that differs from another in some keys. Makes no node where nothing differs.
pub(crate) async fn update<N: Nodes + Sync>(
    base: &N,
    new: &mut NewNodes,
    root: StateRoot,
    changes: &Changes,
) -> Result<StateRoot> {
    let Some((last, _)) = changes.last_key_value() else { return Ok(root) };
    let old_root = root;
    let mut top = match root {
        EMPTY => Node::empty(0),
        _ => Node::clone(&*load_one(&Overlay { base, new }, root).await?),
    };
    let mut root = root;
    let mut grown = Vec::new();
    while prefix(last.get(), top.height) != 0 {
        let mut above = Node::empty(top.height + 1);
        if root != EMPTY {
            above.set(0, Some(root.get()));
            root = new.add(above.clone());
            grown.push(root);
        }
        top = above;
        if top.height > HEIGHT_MAX {
            return Err(damaged());
        }
    }
    let levels =
        path(&Overlay { base, new }, Old { number: root, node: Arc::new(top) }, changes).await?;
    let made = rebuild(new, levels, changes)?;
    let made = shrink(base, new, made).await?;
    if made == old_root {
        grown.iter().for_each(|number| drop(new.made.remove(number)));
    } else {
        drop_unused(new, made, grown);
    }
    Ok(made)
}

/// Takes back those nodes, made to let the tree grow, that the path to a change has replaced since.
fn drop_unused(new: &mut NewNodes, root: StateRoot, mut grown: Vec<NodeNumber>) {
    let mut at = Some(root);
    while let Some(number) = at {
        grown.retain(|kept| *kept != number);
        at = new
            .made
            .get(&number)
            .filter(|n| n.height > 0)
            .and_then(|n| n.get(0))
            .map(NodeNumber::new);
    }
    for number in grown {
        new.made.remove(&number);
    }
}

/// The old nodes on the paths to the changed keys: for each level, from the leaves up, by prefix.
async fn path<N: Nodes + Sync>(
    nodes: &N,
    top: Old,
    changes: &Changes,
) -> Result<Vec<BTreeMap<u64, Old>>> {
    let mut at = top.node.height;
    let mut current = BTreeMap::from([(0, top)]);
    let mut levels: Vec<BTreeMap<u64, Old>> = Vec::new();
    while at > 0 {
        let below = at - 1;
        let mut wanted: BTreeMap<u64, NodeNumber> = BTreeMap::new();
        for key in changes.keys() {
            let parent = current.get(&prefix(key.get(), at)).ok_or_else(damaged)?;
            let child = parent.node.get(slot(key.get(), at)).map_or(EMPTY, NodeNumber::new);
            wanted.insert(prefix(key.get(), below), child);
        }
        let loaded = load_map(nodes, wanted.values().copied().collect()).await?;
        let old = |number: NodeNumber| match loaded.get(&number) {
            Some(node) => Old { number, node: Arc::clone(node) },
            None => Old { number: EMPTY, node: Arc::new(Node::empty(below)) },
        };
        let next = wanted.into_iter().map(|(prefix, number)| (prefix, old(number))).collect();
        levels.push(std::mem::replace(&mut current, next));
        at = below;
    }
    levels.push(current);
    levels.reverse();
    Ok(levels)
}

/// A node as it was: [`EMPTY`] stands for one that was never made.
struct Old {
    number: NodeNumber,
    node: Arc<Node>,
}

/// Makes the changed nodes from the leaves up, and gives the new root.
fn rebuild(
    new: &mut NewNodes,
    levels: Vec<BTreeMap<u64, Old>>,
    changes: &Changes,
) -> Result<StateRoot> {
    let mut below: BTreeMap<u64, Option<u64>> =
        changes.iter().map(|(key, event)| (key.get(), event.map(EventNumber::get))).collect();
    for level in levels {
        let mut above: BTreeMap<u64, Option<u64>> = BTreeMap::new();
        let mut changed = below.into_iter().peekable();
        for (prefix, old) in level {
            let mut node = None;
            while let Some((child, value)) = changed.next_if(|(child, _)| child >> BITS == prefix) {
                let slot = (child & 31) as u32;
                if old.node.get(slot) != value {
                    node.get_or_insert_with(|| Node::clone(&old.node)).set(slot, value);
                }
            }
            let number = match node {
                Some(node) if node.is_empty() => None,
                Some(node) => Some(new.add(node).get()),
                None if old.node.is_empty() => None,
                None => Some(old.number.get()),
            };
            above.insert(prefix, number);
        }
        below = above;
    }
    let root = below.remove(&0).ok_or_else(damaged)?;
    Ok(root.map_or(EMPTY, NodeNumber::new))
}

/// Takes away the levels above that have but one branch, the first.
async fn shrink<N: Nodes + Sync>(
    base: &N,
    new: &mut NewNodes,
    mut root: StateRoot,
) -> Result<StateRoot> {
    while root != EMPTY {
        let node = load_one(&Overlay { base, new }, root).await?;
        match node.only_first() {
            Some(child) if node.height > 0 => {
                new.made.remove(&root);
                root = NodeNumber::new(child);
            }
            _ => break,
        }
    }
    Ok(root)
}

/// A key whose event differs between two states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) key: StateKeyNumber,
    pub(crate) from: Option<EventNumber>,
    pub(crate) to: Option<EventNumber>,
}

/// One side of a comparison: a subtree, which may be lower than the level that is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Side {
    number: NodeNumber,
    height: u8,
}

/// Two subtrees to compare, and the keys that they hold.
struct Pair {
    prefix: u64,
    from: Option<Side>,
    to: Option<Side>,
}

/// The keys whose events differ, in order. Does not look at what both states share.
pub(crate) async fn diff<N: Nodes + Sync>(
    nodes: &N,
    from: StateRoot,
    to: StateRoot,
) -> Result<Vec<Difference>> {
    if from == to {
        return Ok(Vec::new());
    }
    let tops = load_map(nodes, vec![from, to]).await?;
    let side = |root: StateRoot| tops.get(&root).map(|n| Side { number: root, height: n.height });
    let (from, to) = (side(from), side(to));
    let mut height = from.map_or(0, |side| side.height).max(to.map_or(0, |side| side.height));
    let mut pairs = vec![Pair { prefix: 0, from, to }];
    let mut differences = Vec::new();
    loop {
        let sides = pairs.iter().flat_map(|pair| [pair.from, pair.to]).flatten();
        let numbers = sides.filter(|side| side.height == height).map(|side| side.number).collect();
        let loaded = load_map(nodes, numbers).await?;
        let mut next = Vec::new();
        for pair in &pairs {
            let from = branches(&loaded, pair.from, height)?;
            let to = branches(&loaded, pair.to, height)?;
            for slot in 0..32_u8 {
                let (from, to) = (from.get(&slot).copied(), to.get(&slot).copied());
                let key = (pair.prefix << BITS) | u64::from(slot);
                if from == to {
                } else if height == 0 {
                    let event = |side: Option<Side>| side.map(|s| EventNumber::new(s.number.get()));
                    let key = StateKeyNumber::new(key);
                    differences.push(Difference { key, from: event(from), to: event(to) });
                } else {
                    next.push(Pair { prefix: key, from, to });
                }
            }
        }
        let Some(below) = height.checked_sub(1) else { break };
        if next.is_empty() {
            break;
        }
        height = below;
        pairs = next;
    }
    Ok(differences)
}

/// The branches of one side at a level, by slot.
fn branches(
    loaded: &HashMap<NodeNumber, Arc<Node>>,
    side: Option<Side>,
    height: u8,
) -> Result<BTreeMap<u8, Side>> {
    let Some(side) = side else { return Ok(BTreeMap::new()) };
    if side.height < height {
        return Ok(BTreeMap::from([(0, side)]));
    }
    let node = loaded.get(&side.number).ok_or_else(damaged)?;
    let below = height.saturating_sub(1);
    let branch = |(slot, value): (u32, u64)| {
        (slot as u8, Side { number: NodeNumber::new(value), height: below })
    };
    Ok(node.iter().map(branch).collect())
}

/// All keys with their events, in order.
pub(crate) async fn walk<N: Nodes + Sync>(
    nodes: &N,
    root: StateRoot,
) -> Result<Vec<(StateKeyNumber, EventNumber)>> {
    let differences = diff(nodes, EMPTY, root).await?;
    Ok(differences.into_iter().filter_map(|d| Some((d.key, d.to?))).collect())
}
