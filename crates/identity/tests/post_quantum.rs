//! The choice of post-quantum key exchange, in a process of its own since it holds for all of one.

use lateen_identity::crypto::{AlreadyChosen, only_post_quantum, provider};
use rustls::NamedGroup;

#[test]
fn it_leaves_no_classic_group_and_cannot_come_too_late() {
    assert_eq!(only_post_quantum(), Ok(()));
    let groups: Vec<NamedGroup> = provider().kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(groups, [NamedGroup::X25519MLKEM768]);
    assert_eq!(only_post_quantum(), Err(AlreadyChosen));
}
