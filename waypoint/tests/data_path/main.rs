//! The waypoint's data path against real sockets: what is sent, what arrives, how both sides end.

mod authority;
mod behalf;
mod endings;
mod endpoints;
mod frames;
mod gateway;
mod http2;
mod lasting;
mod limits;
mod mesh;
mod messages;
mod named;
mod opaque;
mod origination;
mod parting;
mod policies;
mod protocol;
mod rig;
mod roots;
mod sessions;
mod smuggling;
mod translation;
mod unreadable;
mod waiting;
