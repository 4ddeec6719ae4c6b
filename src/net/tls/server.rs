//! Ends TLS for clients.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ServerSessionMemoryCache, UnbufferedServerConnection};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::certificate::{self, CertificateFiles};
use super::error::{HandshakeError, TlsError};
use super::provider;
use super::records::End;
use super::stream::Tls;
use super::verify_client::ClientVerifier;
use crate::config::{ClientCertificates, ListenTls, TlsVersion};
use crate::net::Stream;

/// Sessions remembered for clients of TLS 1.2 that take no tickets.
const SESSIONS: usize = 1024;

/// What clients may speak over TLS (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// `http/1.1`
    Http1,
    /// `h2`, and `http/1.1` for those who do not speak it.
    Http2,
}

/// Takes clients in over TLS, as one set of settings says.
#[derive(Debug, Clone)]
pub struct Acceptor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: ListenTls,
    offer: Offer,
    config: Arc<ServerConfig>,
    not_after: i64,
    about: String,
}

impl Acceptor {
    /// From `listen.tls`. With equal settings `previous` goes on, so that the tickets it gave out are still
    /// good; with others its tickets are not: they would vouch for clients that nobody checked by the new.
    ///
    /// # Errors
    /// A file is not what it has to be.
    pub fn new(settings: &ListenTls, offer: Offer, previous: Option<&Self>) -> Result<Self, TlsError> {
        if let Some(Self(inner)) = previous
            && inner.settings == *settings
            && inner.offer == offer
        {
            return Ok(Self(Arc::clone(inner)));
        }
        const SECTION: &str = "listen.tls";
        let refused = |error| TlsError::refused(SECTION, &error);
        let identity = certificate::load_own(CertificateFiles {
            cert_key: "listen.tls.cert_file",
            cert: &settings.cert,
            key_key: "listen.tls.key_file",
            key: &settings.key,
        })?;
        let versions: &[&SupportedProtocolVersion] = match settings.min_version {
            TlsVersion::V1_2 => &[&TLS13, &TLS12],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(refused)?;
        let builder = match &settings.clients {
            None => builder.with_no_client_auth(),
            Some(ClientCertificates { ca, required }) => {
                const KEY: &str = "listen.tls.client_ca_file";
                let verifier =
                    ClientVerifier::new(certificate::load_trusted(KEY, ca)?, *required, provider());
                let verifier = verifier.map_err(|source| TlsError::refused(KEY, &source))?;
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified)));
        config.alpn_protocols = match offer {
            Offer::Http1 => vec![b"http/1.1".to_vec()],
            Offer::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.ticketer = Ticketer::new().map_err(refused)?;
        let inner = Inner {
            settings: settings.clone(),
            offer,
            config: Arc::new(config),
            not_after: identity.not_after,
            about: identity.about,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Shakes hands with a client. Takes as long as the client does: callers have a timeout.
    ///
    /// # Errors
    /// Why it came to nothing, and the socket, on which the alert has been sent as far as it went.
    pub async fn accept(&self, socket: Stream) -> Result<Box<Tls>, (HandshakeError, Stream)> {
        match UnbufferedServerConnection::new(Arc::clone(&self.0.config)) {
            Ok(connection) => Tls::handshake(socket, End::Server(connection)).await,
            Err(error) => Err((HandshakeError::from_rustls(error), socket)),
        }
    }

    /// For whom our certificate is, and until when, for people: `app.example.com until 2027-01-31`.
    pub fn about(&self) -> &str {
        &self.0.about
    }

    /// When our certificate ends, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.0.not_after
    }
}
