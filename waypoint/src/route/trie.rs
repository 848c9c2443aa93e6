//! Which of many prefixes a path begins with.
//!
//! In: prefixes with numbers of routes. Out: for a path, the lists of numbers of all its prefixes. It costs the length of
//! the path, however many prefixes there are. Absent on purpose: what the numbers mean.
//!
//! ```text
//! "" ─ "/" ─┬─ "cart" ──── "/items"
//!           └─ "product" ─┬─ "s"
//!                         └─ "page"
//! ```

use smallvec::SmallVec;

/// Prefixes as a radix tree: each node has the bytes that lead to it, no two siblings begin alike.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    label: Box<[u8]>,
    /// By the first byte of their labels.
    children: SmallVec<[Child; 1]>,
    /// Routes whose text prefix ends here.
    text: Numbers,
    /// Routes whose prefix of whole elements ends here.
    elements: Numbers,
}

#[derive(Debug, Clone, Copy)]
struct Child {
    first: u8,
    node: u32,
}

/// Numbers of routes, ascending.
pub(super) type Numbers = SmallVec<[u32; 1]>;

/// What a prefix consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Bytes.
    Text,
    /// Elements between slashes.
    Elements,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Trie {
    /// Adds a route's prefix. Numbers must come in ascending order.
    pub(super) fn insert(&mut self, prefix: &[u8], of: Of, number: u32) {
        let node = self.node_at(prefix);
        match of {
            Of::Text => self.nodes[node].text.push(number),
            Of::Elements => self.nodes[node].elements.push(number),
        }
    }

    /// The node that the whole of `prefix` leads to, made if need be.
    fn node_at(&mut self, prefix: &[u8]) -> usize {
        let (mut at, mut rest) = (0, prefix);
        while let Some(first) = rest.first() {
            let Ok(place) = self.nodes[at].children.binary_search_by_key(first, |child| child.first) else {
                return self.add(at, rest);
            };
            let child = self.nodes[at].children[place].node as usize;
            let common = common(&self.nodes[child].label, rest);
            at = if common < self.nodes[child].label.len() { self.split(at, place, common) } else { child };
            rest = &rest[common..];
        }
        at
    }

    /// A new child of `parent`, which has none that begins alike.
    fn add(&mut self, parent: usize, label: &[u8]) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node { label: label.into(), ..Node::default() });
        let children = &mut self.nodes[parent].children;
        let place = children.partition_point(|child| child.first < label[0]);
        children.insert(place, Child { first: label[0], node: index(node) });
        node
    }

    /// Puts a node between `parent` and its child at `place`, after `common` bytes of the child's label.
    fn split(&mut self, parent: usize, place: usize, common: usize) -> usize {
        let below = self.nodes[parent].children[place].node;
        let label = std::mem::take(&mut self.nodes[below as usize].label);
        let (head, tail) = label.split_at(common);
        self.nodes[below as usize].label = tail.into();
        let node = self.nodes.len();
        let children = SmallVec::from_elem(Child { first: tail[0], node: below }, 1);
        self.nodes.push(Node { label: head.into(), children, ..Node::default() });
        self.nodes[parent].children[place].node = index(node);
        node
    }

    /// The numbers of every prefix of `path`, short prefixes first. `fold` is done to each byte of the path.
    pub(super) fn prefixes(&self, path: &[u8], fold: impl Fn(u8) -> u8) -> SmallVec<[&Numbers; 8]> {
        let mut found = SmallVec::new();
        let (mut node, mut rest) = (&self.nodes[0], path);
        loop {
            if !node.text.is_empty() {
                found.push(&node.text);
            }
            if !node.elements.is_empty() && rest.first().is_none_or(|next| *next == b'/') {
                found.push(&node.elements);
            }
            let Some(first) = rest.first().map(|byte| fold(*byte)) else { return found };
            let Ok(place) = node.children.binary_search_by_key(&first, |child| child.first) else { return found };
            node = &self.nodes[node.children[place].node as usize];
            let begins = rest.len() >= node.label.len()
                && node.label.iter().zip(rest).all(|(byte, given)| *byte == fold(*given));
            if !begins {
                return found;
            }
            rest = &rest[node.label.len()..];
        }
    }

    /// Whether there is no prefix at all.
    pub(super) fn is_empty(&self) -> bool {
        let [root] = self.nodes.as_slice() else { return false };
        root.text.is_empty() && root.elements.is_empty()
    }
}

fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

#[allow(clippy::cast_possible_truncation, reason = "a resource of 4 billion prefixes does not fit into a message")]
fn index(node: usize) -> u32 {
    node as u32
}
