//! Certificates of the tests' own.

/// A certificate for these names or addresses, signed by itself, and its key: PEM.
pub fn certified(names: &[&str]) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = rcgen::CertificateParams::new(names).expect("names");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

/// An authority's certificate, and one for these names that it vouches for, with its key: PEM.
pub fn vouched(names: &[&str]) -> (String, String, String) {
    let key = || rcgen::KeyPair::generate().expect("a key");
    let params = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        rcgen::CertificateParams::new(names).expect("names")
    };
    let mut authority = params(&[]);
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "the test's authority");
    let issuer = rcgen::CertifiedIssuer::self_signed(authority, key()).expect("a certificate");
    let mut server = params(names);
    // What browsers ask of a server's certificate.
    server.use_authority_key_identifier_extension = true;
    server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let server_key = key();
    let certificate = server.signed_by(&server_key, &issuer).expect("a certificate");
    (issuer.pem(), certificate.pem(), server_key.serialize_pem())
}
