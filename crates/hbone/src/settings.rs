//! The HTTP/2 numbers of both ends, which peers of other makes can see.

use std::time::Duration;

/// HTTP/2 limits and waits. The defaults are the reference's.
#[derive(Debug, Clone)]
pub struct Settings {
    /// SETTINGS_INITIAL_WINDOW_SIZE: what one stream may send before we hand it on.
    pub stream_window: u32,
    /// What all streams together may send. Larger than one stream's, or a peer that reads one stream only after
    /// another could block both.
    pub connection_window: u32,
    /// SETTINGS_MAX_FRAME_SIZE.
    pub frame_size: u32,
    /// How much one stream buffers for sending before its writer waits.
    pub send_buffer_max: usize,
    /// SETTINGS_MAX_CONCURRENT_STREAMS of a server.
    pub server_streams_max: u32,
    /// Streams a client puts on one connection, unless the server allows fewer.
    pub client_streams_max: usize,
    /// Silence before a PING.
    pub ping_after: Duration,
    /// How long a PING's answer may take before the connection is dead.
    pub ping_timeout: Duration,
    /// How long the HTTP/2 preface may take, and a client's first request after it.
    pub open_timeout: Duration,
    /// How long the answer to a CONNECT may take. The far side dials meanwhile, for up to 10 s.
    pub connect_timeout: Duration,
}

/// What small DATA frames that wait for a slow reader may cost, each counted as 256 bytes, before the connection is
/// taken for an attack. h2's own 8 MiB would let one application that writes single bytes to a stalled reader end the
/// tunnels of all its neighbours.
pub(crate) const SMALL_FRAMES_MAX: usize = 32 * 1024 * 1024;
/// SETTINGS_MAX_HEADER_LIST_SIZE of a client.
pub(crate) const CLIENT_HEADERS_MAX: u32 = 16 * 1024;
/// SETTINGS_MAX_HEADER_LIST_SIZE of a server.
pub(crate) const SERVER_HEADERS_MAX: u32 = 64 * 1024;

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_window: 4 * 1024 * 1024,
            connection_window: 16 * 1024 * 1024,
            frame_size: 1024 * 1024,
            send_buffer_max: 400 * 1024,
            server_streams_max: 200,
            client_streams_max: 100,
            ping_after: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            open_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(15),
        }
    }
}
