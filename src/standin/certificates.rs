//! A small certificate authority and server certificates for this machine's loopback names, as PEM files. For trying
//! things out only: nothing here ever makes a certificate that anybody else should trust.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};

/// The names and addresses that every certificate is for: those that a trial on one machine uses.
const NAMES: &[&str] = &["localhost", "127.0.0.1", "127.0.0.2", "::1"];

/// An authority whose certificate and whose servers' certificates are files in one directory.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// The files of one server: its certificate chain and its private key (mode 0600).
#[derive(Debug, Clone)]
pub struct Identity {
    /// PEM file with the server's certificate and the authority's.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes a new authority and writes `ca.pem` into `directory`, which is created when it is missing.
    pub fn create(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority =
            CertifiedIssuer::self_signed(authority_params()?, key).map_err(io::Error::other)?;
        fs::write(directory.join("ca.pem"), authority.pem())?;
        Ok(Self {
            directory: directory.to_owned(),
            authority,
        })
    }

    /// The file that a client trusts.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Makes a server's certificate and key and writes them as `NAME.pem` and `NAME.key`.
    pub fn issue(&self, name: &str) -> io::Result<Identity> {
        self.sign(name, server_params()?)
    }

    /// The same, but the certificate is valid only until then.
    pub fn issue_until(&self, name: &str, until: SystemTime) -> io::Result<Identity> {
        let mut params = server_params()?;
        params.not_after = until.into();
        self.sign(name, params)
    }

    /// The chain for a server named `name` whose public key is this point of the curve P-256, valid from then until then,
    /// as an authority issues it that never sees the private key.
    pub fn sign_for(
        &self,
        name: &str,
        point: Vec<u8>,
        (from, until): (SystemTime, SystemTime),
    ) -> io::Result<String> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(io::Error::other)?;
        (params.not_before, params.not_after) = (from.into(), until.into());
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&Point(point), &self.authority)
            .map_err(io::Error::other)?;
        Ok(certificate.pem() + &self.authority.pem())
    }

    fn sign(&self, name: &str, params: CertificateParams) -> io::Result<Identity> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params
            .signed_by(&key, &self.authority)
            .map_err(io::Error::other)?;
        let identity = Identity {
            certificate: self.directory.join(format!("{name}.pem")),
            key: self.directory.join(format!("{name}.key")),
        };
        fs::write(
            &identity.certificate,
            certificate.pem() + &self.authority.pem(),
        )?;
        write_secret(&identity.key, &key.serialize_pem())?;
        Ok(identity)
    }
}

/// The public half of somebody else's key.
struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Writes a file that only its owner may read, from its first byte on.
pub fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

fn authority_params() -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "belvo-gateway trial authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn server_params() -> io::Result<CertificateParams> {
    let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_may_read_a_key() {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let certificates =
            Certificates::create(directory.path()).expect("an authority can be made");
        let identity = certificates
            .issue("server")
            .expect("a certificate can be made");
        let mode = fs::metadata(&identity.key)
            .expect("the key is a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let chain = fs::read_to_string(&identity.certificate).expect("the chain is a file");
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    }
}
