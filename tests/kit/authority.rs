//! A throw-away certificate authority, as long as a test lives.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// Makes certificates for servers of tests.
pub(crate) struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: PathBuf,
}

/// PEM files of a certificate and of its key.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes an authority that nobody knew before.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let root = directory.path().join("root.pem");
        std::fs::write(&root, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), root, directory }
    }

    /// The PEM file that servers shall trust.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a certificate for some names.
    pub(crate) fn certify(&self, names: &[String]) -> Certified {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.to_vec()).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |ending: &str| self.directory.path().join(format!("{}.{ending}", names[0]));
        let certified = Certified { certificate: file("pem"), key: file("key") };
        std::fs::write(&certified.certificate, certificate.pem()).unwrap();
        std::fs::write(&certified.key, key.serialize_pem()).unwrap();
        certified
    }
}
