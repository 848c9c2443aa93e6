//! The controllers against a cluster in memory: their actions are applied, a kubelet of a few lines runs the pods.

mod cluster;
mod placing;
mod reaching;
mod running;
