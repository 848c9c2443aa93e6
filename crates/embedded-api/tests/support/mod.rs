//! A server of its own for each test, on loopback.

use kube::{Client, Config, config::Kubeconfig};
use lateen_embedded_api::{ApiHandle, ApiServer, Options};
use tokio::net::TcpListener;

/// A running server and where it is.
pub struct Server {
    pub handle: ApiHandle,
    pub url: String,
}

impl Server {
    /// Starts one.
    pub async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("https://{}", listener.local_addr().expect("bound"));
        let handle = ApiServer::start(options, vec![listener]).await.expect("the server starts");
        Self { handle, url }
    }

    /// The administrator's kubeconfig.
    #[allow(dead_code, reason = "only kubectl needs a file")]
    pub fn kubeconfig(&self) -> String {
        self.handle.kubeconfig(&self.url, self.handle.admin_token())
    }

    /// A client with the administrator's token.
    #[allow(dead_code, reason = "not every test file uses the kube crate")]
    pub async fn client(&self) -> Client {
        self.client_with(self.handle.admin_token()).await
    }

    /// A client with some token.
    #[allow(dead_code, reason = "not every test file uses the kube crate")]
    pub async fn client_with(&self, token: &str) -> Client {
        let config = Kubeconfig::from_yaml(&self.handle.kubeconfig(&self.url, token)).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(config, &Default::default()).await.expect("a client configuration");
        Client::try_from(config).expect("a client")
    }
}
