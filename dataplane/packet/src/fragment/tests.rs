use proptest::prelude::*;

use super::*;
use crate::build::FrameSpec;
use crate::checksum::{ipv4_header_checksum, verify_l4};
use crate::memory::HeapBuffer;
use crate::parse::{ParseError, parse};
use crate::{Buffer, checksum};

fn udp4(payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|at| at as u8).collect();
    let mut spec = FrameSpec::udp(
        "192.0.2.1:4000".parse().unwrap(),
        "192.0.2.2:53".parse().unwrap(),
    );
    spec.fragment = 0;
    spec.identification = 0x1234;
    spec.with_payload(&payload).bytes().unwrap()
}

/// All fragments of an IPv4 packet for an MTU.
fn cut(whole: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let parsed = parse(whole).unwrap();
    let cut = plan(whole, &parsed, mtu).unwrap();
    (0..cut.count())
        .map(|at| {
            let mut to = vec![0xee; cut.frame_len(at)];
            assert!(cut.write(whole, at, &mut to));
            to
        })
        .collect()
}

/// An IPv6 packet with this fragment header word and this behind it.
fn v6(next: u8, word: u16, data: &[u8]) -> Vec<u8> {
    let mut payload = vec![next, 0];
    payload.extend(word.to_be_bytes());
    payload.extend(0xcafe_f00d_u32.to_be_bytes());
    payload.extend(data);
    let (from, to) = (
        "2001:db8::1".parse().unwrap(),
        "2001:db8::2".parse().unwrap(),
    );
    FrameSpec::raw(from, to, HEADER_V6, &payload)
        .bytes()
        .unwrap()
}

proptest! {
    #[test]
    fn what_is_cut_can_be_put_together_again(payload in 100usize..4000, mtu in 68u16..1500) {
        let whole = udp4(payload);
        let parsed = parse(&whole).unwrap();
        prop_assume!(usize::from(mtu) < parsed.end() - parsed.l3());
        let mut data = vec![0; parsed.end() - parsed.l4()];
        let pieces = cut(&whole, mtu);
        for (at, frame) in pieces.iter().enumerate() {
            prop_assert!(frame.len() - 14 <= usize::from(mtu));
            prop_assert_eq!(parse(frame), Err(ParseError::Fragment));
            prop_assert_eq!(ipv4_header_checksum(&frame[14..34]).to_be_bytes(), &frame[24..26]);
            let piece = Piece::read(frame);
            if at == 0 && piece.is_err() {
                continue; // shorter than a transport header
            }
            let piece = piece.unwrap();
            prop_assert_eq!((piece.id, piece.is_first()), (0x1234, at == 0));
            prop_assert_eq!(piece.is_last, at + 1 == pieces.len());
            data[piece.start as usize..piece.end as usize].copy_from_slice(&frame[34..]);
        }
        prop_assert_eq!(&data[..], &whole[34..]);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), v4: bool) {
        let _ = Piece::read(&bytes);
        let mut bytes = bytes;
        if bytes.len() > 14 {
            let kind: [u8; 2] = if v4 { [8, 0] } else { [0x86, 0xdd] };
            bytes[12..14].copy_from_slice(&kind);
            bytes[14] = if v4 { 0x45 } else { 0x60 };
            if let Ok(mut piece) = Piece::read(&bytes) {
                piece.set_id(&mut bytes, 7);
            }
        }
    }
}

#[test]
fn fragments_are_cut_again_with_their_own_offsets() {
    let whole = udp4(3000);
    let once = cut(&whole, 1400);
    let mut twice = Vec::new();
    for frame in &once {
        let piece = Piece::read(frame).unwrap();
        match plan(frame, &piece.parsed, 600) {
            Some(cut) => twice.extend((0..cut.count()).map(|at| {
                let mut to = vec![0; cut.frame_len(at)];
                assert!(cut.write(frame, at, &mut to));
                to
            })),
            None => twice.push(frame.clone()),
        }
    }
    let mut data = vec![0; whole.len() - 34];
    let mut last = 0;
    for frame in &twice {
        let piece = Piece::read(frame).unwrap();
        data[piece.start as usize..piece.end as usize].copy_from_slice(&frame[34..]);
        last += usize::from(piece.is_last);
    }
    assert_eq!((&data[..], last), (&whole[34..], 1));
}

#[test]
fn what_must_not_be_cut_is_not() {
    let mut spec = FrameSpec::udp("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
    spec.payload = vec![0; 600];
    let whole = spec.bytes().unwrap();
    assert_eq!(plan(&whole, &parse(&whole).unwrap(), 576), None);
    spec.fragment = 0;
    spec.ip_options = vec![1; 4];
    let whole = spec.bytes().unwrap();
    assert_eq!(plan(&whole, &parse(&whole).unwrap(), 576), None);
}

#[test]
fn tiny_and_impossible_fragments_are_refused() {
    let tcp = [
        0, 80, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4,
    ];
    let read =
        |next, word, data: &[u8]| Piece::read(&v6(next, word, data)).map(|piece| piece.start);
    assert_eq!(read(TCP, 1, &tcp), Ok(0));
    assert_eq!(
        read(TCP, 1, &tcp[..16]),
        Err(PieceError::Tiny),
        "half a header"
    );
    assert_eq!(
        read(TCP, 8, &tcp),
        Err(PieceError::Tiny),
        "reaches into the header"
    );
    assert_eq!(read(TCP, 24, &tcp), Ok(24));
    assert_eq!(read(UDP, 8, &tcp), Ok(8));
    assert_eq!(
        read(TCP, 25, &tcp[..20]),
        Err(PieceError::BadLength),
        "others follow"
    );
    assert_eq!(read(TCP, 24, &[]), Err(PieceError::BadLength));
    assert_eq!(
        read(TCP, 0xfff8, &tcp),
        Err(PieceError::BadLength),
        "past 65,535"
    );
    assert_eq!(read(SCTP, 1, &tcp), Err(PieceError::Protocol));
    // An option header that does not end inside the first fragment (RFC 7112).
    assert_eq!(
        read(60, 1, &[TCP, 9, 0, 0, 0, 0, 0, 0]),
        Err(PieceError::Tiny)
    );
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let mut datagram = [0, 53, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let (from, to) = (
        "2001:db8::1".parse().unwrap(),
        "2001:db8::2".parse().unwrap(),
    );
    let sum = checksum::pseudo(from, to, UDP, datagram.len()).unwrap();
    assert!(checksum::write_l4(&mut datagram, sum, UDP));
    let parsed = parse(&v6(UDP, 0, &datagram)).unwrap();
    assert_eq!((parsed.protocol, parsed.l4), (UDP, 62));
    assert_eq!(parse(&v6(UDP, 1, &datagram)), Err(ParseError::Fragment));
}

#[test]
fn another_identification_keeps_the_header_checksum_right() {
    for mut frame in cut(&udp4(2000), 1400) {
        let mut piece = Piece::read(&frame).unwrap();
        piece.set_id(&mut frame, 0xbeef);
        assert_eq!(Piece::read(&frame).unwrap().id, 0xbeef);
        assert_eq!(
            ipv4_header_checksum(&frame[14..34]).to_be_bytes(),
            frame[24..26]
        );
    }
    let mut frame = v6(UDP, 9, &[0; 8]);
    let mut piece = Piece::read(&frame).unwrap();
    piece.set_id(&mut frame, 0x0102_0304);
    assert_eq!(Piece::read(&frame).unwrap().id, 0x0102_0304);
}

#[test]
fn an_echo_request_in_fragments_becomes_its_reply() {
    let mut spec = FrameSpec::echo("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    spec.fragment = 0;
    spec.payload = (0..3000).map(|at| at as u8).collect();
    let whole = spec.bytes().unwrap();
    let mut message = vec![0; whole.len() - 34];
    for frame in cut(&whole, 1500) {
        let piece = Piece::read(&frame).unwrap();
        assert_eq!(is_echo(&frame, &piece), piece.is_first());
        let mut frame = HeapBuffer::from_bytes(&frame);
        assert!(answer_echo(&mut frame, &piece, 9));
        let bytes = frame.bytes();
        assert_eq!(bytes[26..34], [192, 0, 2, 2, 192, 0, 2, 1]);
        assert_eq!(
            ipv4_header_checksum(&bytes[14..34]).to_be_bytes(),
            bytes[24..26]
        );
        message[piece.start as usize..piece.end as usize].copy_from_slice(&bytes[34..]);
    }
    assert_eq!(verify_l4(&message, 0, ICMP), checksum::Checksum::Good);
    assert_eq!(message[0], 0);
    assert_eq!(message[8..], whole[42..]);
}
