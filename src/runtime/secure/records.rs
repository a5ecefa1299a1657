//! The record layer of a connection whose handshake is done: what is kept of it is a key and a number for each direction.
//! rustls seals and opens; here is only which record comes next.

use std::ops::Range;

use rustls::crypto::cipher::{
    InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion, SupportedCipherSuite};

use crate::limits::TLS_KEY_MARGIN;

/// Bytes before a record's payload: its type, a version, its length.
pub(super) const HEAD_BYTES: usize = 5;

/// TLS 1.3's message that the sender's next record has the next key (RFC 8446 section 4.6.3), and asks for nothing.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
/// Same, which asks the other end for the same.
const KEY_UPDATE_BOTH: [u8; 5] = [24, 0, 0, 1, 1];

/// Both directions of a connection.
pub(super) struct Records {
    suite: SupportedCipherSuite,
    /// Records that one key may seal.
    limit: u64,
    sealer: Box<dyn MessageEncrypter>,
    sealed: u64,
    opener: Box<dyn MessageDecrypter>,
    opened: u64,
    /// By what the next keys are made; TLS 1.2 has none.
    updates: Option<Box<KernelConnection<ServerConnectionData>>>,
}

/// The payload's length of a record that begins with this head.
pub(super) fn length(head: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([head[3], head[4]]))
}

impl Records {
    /// Of a connection whose handshake is done and all told.
    pub(super) fn new(connection: UnbufferedServerConnection) -> Result<Records, Error> {
        let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
        let suite = kernel.negotiated_cipher_suite();
        let limit = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        };
        Ok(Records {
            suite,
            limit,
            sealer: sealer(suite, secrets.tx.1),
            sealed: secrets.tx.0,
            opener: opener(suite, secrets.rx.1),
            opened: secrets.rx.0,
            updates: is_13(suite).then(|| Box::new(kernel)),
        })
    }

    /// Appends a record.
    pub(super) fn seal(&mut self, kind: ContentType, open: &[u8], sealed: &mut Vec<u8>) -> Result<(), Error> {
        let payload = OutboundChunks::Single(open);
        let message = OutboundPlainMessage { typ: kind, version: ProtocolVersion::TLSv1_2, payload };
        sealed.extend_from_slice(&self.sealer.encrypt(message, self.sealed)?.encode());
        self.sealed += 1;
        Ok(())
    }

    /// The last `count` records that were sealed count as not sealed: nobody else has seen a byte of them, so that their
    /// numbers are free for others.
    pub(super) fn forget(&mut self, count: u64) {
        self.sealed -= count;
    }

    /// Before many more records are sealed: appends what changes the key, if this one is nearly used up (RFC 8446 section 5.5).
    ///
    /// # Errors
    /// It is, and cannot be changed.
    pub(super) fn renew(&mut self, sealed: &mut Vec<u8>) -> Result<(), Error> {
        if self.sealed < self.limit.saturating_sub(TLS_KEY_MARGIN) { Ok(()) } else { self.update(sealed) }
    }

    /// Appends what changes our key, and changes it.
    pub(super) fn update(&mut self, sealed: &mut Vec<u8>) -> Result<(), Error> {
        let Some(updates) = &mut self.updates else { return Err(Error::EncryptError) };
        let (first, secrets) = updates.update_tx_secret()?;
        self.seal(ContentType::Handshake, &KEY_UPDATE, sealed)?;
        (self.sealer, self.sealed) = (sealer(self.suite, secrets), first);
        Ok(())
    }

    /// Opens a record, its head included. Gives what it is, and where in it the open text now is.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(ContentType, Range<usize>), Error> {
        let (kind, version) = (ContentType::from(record[0]), ProtocolVersion::TLSv1_2);
        if is_13(self.suite) && kind != ContentType::ApplicationData {
            return Err(Error::DecryptError);
        }
        let start = record.as_ptr().addr();
        let message = InboundOpaqueMessage::new(kind, version, &mut record[HEAD_BYTES..]);
        let opened = self.opener.decrypt(message, self.opened)?;
        self.opened += 1;
        let at = opened.payload.as_ptr().addr() - start;
        Ok((opened.typ, at..at + opened.payload.len()))
    }

    /// A message of the handshake came behind the handshake: the other end's next record has the next key. Gives whether ours
    /// is to have one as well.
    ///
    /// # Errors
    /// It is another, such as one that asks for a new handshake.
    pub(super) fn on_handshake(&mut self, message: &[u8]) -> Result<bool, Error> {
        let both = message == KEY_UPDATE_BOTH;
        let Some(updates) = self.updates.as_mut().filter(|_| both || message == KEY_UPDATE) else {
            return Err(Error::General("a handshake within a connection".to_owned()));
        };
        let (first, secrets) = updates.update_rx_secret()?;
        (self.opener, self.opened) = (opener(self.suite, secrets), first);
        Ok(both)
    }

    /// As if the key had sealed as many records as it may.
    #[cfg(test)]
    pub(super) fn use_up(&mut self) {
        self.limit = self.sealed + TLS_KEY_MARGIN;
    }

    /// Whether it is TLS 1.3.
    pub(super) fn is_13(&self) -> bool {
        is_13(self.suite)
    }
}

fn is_13(suite: SupportedCipherSuite) -> bool {
    matches!(suite, SupportedCipherSuite::Tls13(_))
}

/// The parts of a secret: a key, and what is mixed with a record's number. In TLS 1.2 AES has four bytes of that, and eight
/// from where numbers that stand in the records begin.
fn parts(secrets: ConnectionTrafficSecrets) -> (rustls::crypto::cipher::AeadKey, rustls::crypto::cipher::Iv, usize) {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } | ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
            (key, iv, 4)
        }
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv, 12),
        _ => unreachable!("the suites of rustls have no other"),
    }
}

fn sealer(suite: SupportedCipherSuite, secrets: ConnectionTrafficSecrets) -> Box<dyn MessageEncrypter> {
    let (key, iv, fixed) = parts(secrets);
    match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            let (fixed, explicit) = iv.as_ref().split_at(fixed);
            suite.aead_alg.encrypter(key, fixed, explicit)
        }
    }
}

fn opener(suite: SupportedCipherSuite, secrets: ConnectionTrafficSecrets) -> Box<dyn MessageDecrypter> {
    let (key, iv, fixed) = parts(secrets);
    match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => suite.aead_alg.decrypter(key, &iv.as_ref()[..fixed]),
    }
}
