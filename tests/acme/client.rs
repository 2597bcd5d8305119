//! The other side of a challenge: a handshake by the protocol `acme-tls/1`, or another one, with whatever certificate.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use belvo_gateway::system::tls::provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// A challenge's certificate is nobody's but its own.
#[derive(Debug)]
struct Whatever;

impl ServerCertVerifier for Whatever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(
            "only TLS 1.3 is asked for".to_owned(),
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // rustls does not read certificates with the extension of a challenge, so the key is taken out by hand: the 91
        // bytes of a public key of P-256.
        let begins = |window: &[u8]| window == [0x30, 0x59, 0x30, 0x13];
        let at = certificate.windows(4).position(begins).expect("a key");
        let key = SubjectPublicKeyInfoDer::from(&certificate[at..at + 91]);
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn connection(domain: &str, protocols: &[&str]) -> ClientConnection {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Whatever))
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let name = ServerName::try_from(domain.to_owned()).expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}

/// The certificate that a challenge is answered with, and all that comes back for a webhook that is sent after it.
pub(crate) fn acme_handshake(to: SocketAddr, domain: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    let stream = TcpStream::connect(to).map_err(|error| error.to_string())?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let mut tls = StreamOwned::new(connection(domain, &["acme-tls/1"]), stream);
    while tls.conn.is_handshaking() {
        tls.conn
            .complete_io(&mut tls.sock)
            .map_err(|error| error.to_string())?;
    }
    if tls.conn.alpn_protocol() != Some(b"acme-tls/1") {
        return Err("another protocol".to_owned());
    }
    let chain = tls.conn.peer_certificates().ok_or("no certificate")?;
    let certificate = chain[0].to_vec();
    // Nobody may be listening any more.
    drop(tls.write_all(b"POST /belvo/webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"));
    let mut after = Vec::new();
    drop(tls.read_to_end(&mut after));
    Ok((certificate, after))
}

/// Everything that comes back, in clear, for a hello with these protocols.
pub(crate) fn answer_to_hello(to: SocketAddr, domain: &str, protocols: &[&str]) -> Vec<u8> {
    let mut hello = Vec::new();
    connection(domain, protocols)
        .write_tls(&mut hello)
        .expect("a hello");
    answer_to(to, &hello)
}

/// Everything that comes back for these bytes.
pub(crate) fn answer_to(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    // Who is closed on at once may be unable to write.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    answer
}
