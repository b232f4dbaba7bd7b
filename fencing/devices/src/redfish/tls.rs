//! How to know that a service is the configured one: by a CA, or by its very certificate.

use core::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::RedfishConfigError;

/// How to know that the service is the configured one, and to keep the password between the two.
#[derive(Clone)]
pub struct Tls {
    pem: Vec<u8>,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Accepts a certificate for `name`, a host name or an address, that descends from one of the certificates in `pem`; and any
    /// certificate that stands in `pem` itself, whatever its name and dates: most BMCs come with one that they have signed
    /// themselves.
    ///
    /// # Errors
    /// The PEM text holds no certificate, or the name is none.
    pub fn new(pem: &[u8], name: &str) -> Result<Self, RedfishConfigError> {
        let bad = |error: String| RedfishConfigError::Ca { error };
        let mut roots = RootCertStore::empty();
        let mut pinned = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?.into_owned();
            roots.add(certificate.clone()).map_err(|error| bad(error.to_string()))?;
            pinned.push(certificate);
        }
        if pinned.is_empty() {
            return Err(bad("it holds no certificate in PEM form".to_owned()));
        }
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| RedfishConfigError::TlsName { name: name.to_owned() })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let by_ca =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let verifier = Pinned { pinned, by_ca: by_ca.map_err(|error| bad(error.to_string()))? };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self { pem: pem.to_vec(), name, config: Arc::new(config) })
    }

    pub(super) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(super) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// The host name, if the service is known by one.
    pub(super) fn host(&self) -> Option<String> {
        if let ServerName::DnsName(name) = &self.name { Some(name.as_ref().to_owned()) } else { None }
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        (&self.pem, &self.name) == (&other.pem, &other.name)
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Leaves everything to the CAs, but for a certificate that is one of the pinned ones byte by byte. That the service has its key is
/// verified in either case.
#[derive(Debug)]
struct Pinned {
    pinned: Vec<CertificateDer<'static>>,
    by_ca: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.by_ca.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_ca.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_ca.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_ca.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_is_a_certificate() {
        let refused = |pem: &str, name: &str| Tls::new(pem.as_bytes(), name).unwrap_err();
        assert!(matches!(refused("", "bmc"), RedfishConfigError::Ca { .. }));
        assert!(matches!(refused("hello", "bmc"), RedfishConfigError::Ca { .. }));
        let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(matches!(refused(broken, "bmc"), RedfishConfigError::Ca { .. }));
    }
}
