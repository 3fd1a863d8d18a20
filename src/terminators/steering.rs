//! What the kernel looks at before it puts a datagram into one of our sockets' queues.
//!
//! Each worker has two sockets on the same port. Records of sessions go straight to the worker that owns the session; whatever else comes, hellos
//! above all, goes to a queue of its own. So a flood of hellos fills the queue of hellos, and no session loses a datagram to it. Where the kernel
//! takes no program it spreads datagrams by their address: workers hand over what is not theirs, and only the protection is missing.

use std::io;
use std::os::fd::AsFd;

use firmware_protocol::dtls::record::{BUCKET_AT, content};
use nix::libc::{
    BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_B, BPF_JA, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MISC, BPF_MOD, BPF_MUL, BPF_RET, BPF_RSH,
    BPF_TAX, BPF_TXA, BPF_W, BPF_X, BPF_XOR, SKF_NET_OFF, sock_filter, sock_fprog,
};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::AttachReusePortCbpf;

/// Places in an IP header: its version, the sender's address, and behind it the ports. An IPv4 header with options has something else there, which is
/// as good: it only has to be the same for all datagrams of a sender.
const IP_VERSION_AT: u32 = 0;
const V4_SENDER_AT: [u32; 2] = [12, 20];
const V6_SENDER_AT: [u32; 5] = [8, 12, 16, 20, 40];
/// Knuth's multiplier: neighbours in address or port go to different workers.
const SCATTER: u32 = 2_654_435_761;

/// Steers what comes to the group of `socket`: its first `workers` sockets get records of sessions, as many behind them get the rest.
///
/// # Errors
/// The kernel takes no program; the group then works without.
pub(super) fn steer(socket: impl AsFd, workers: usize) -> io::Result<()> {
    let mut program = program(u32::try_from(workers).map_err(io::Error::other)?);
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    Ok(setsockopt(&socket, AttachReusePortCbpf, &sock_fprog { len, filter: program.as_mut_ptr() })?)
}

/// Leaves the index of the socket a datagram goes to. A datagram too short for a load goes to the first.
fn program(workers: u32) -> Vec<sock_filter> {
    let mut program = vec![load_byte(0)];
    // The worker that owns the session is named in the connection id.
    let owner = [load_byte(BUCKET_AT), calculate(BPF_MOD, workers), RETURN];
    program.extend(if_one_of(&[content::CID, content::MOVED], &owner));
    // All else to one worker for each sender: cookies are its own. Sessions without connection id are found by whichever.
    program.extend(sender());
    program.extend([calculate(BPF_MUL, SCATTER), calculate(BPF_RSH, 16), calculate(BPF_MOD, workers), TO_X, load_byte(0)]);
    program.extend(if_one_of(&[content::APPLICATION, content::ALERT, content::MOVED_UNLABELLED], &[FROM_X, RETURN]));
    program.extend([FROM_X, calculate(BPF_ADD, workers), RETURN]);
    program
}

/// Mixes the words of the sender's address and port.
fn sender() -> Vec<sock_filter> {
    let mixed = |places: &[u32]| -> Vec<sock_filter> {
        let words = places.iter().enumerate().map(|(index, at)| match index {
            0 => vec![load_ip(BPF_W, *at)],
            _ => vec![TO_X, load_ip(BPF_W, *at), instruction(BPF_ALU | BPF_XOR | BPF_X, 0)],
        });
        words.flatten().collect()
    };
    let (v4, mut v6) = (mixed(&V4_SENDER_AT), mixed(&V6_SENDER_AT));
    v6.push(instruction(BPF_JMP | BPF_JA, count(v4.len())));
    let is_v6 = [load_ip(BPF_B, IP_VERSION_AT), calculate(BPF_RSH, 4)];
    [&is_v6[..], &if_one_of(&[6], &v6), &v4].concat()
}

/// Does `then` if the accumulator is one of `values`.
fn if_one_of(values: &[u8], then: &[sock_filter]) -> Vec<sock_filter> {
    // A jump counts from the instruction behind it.
    let tests = values.iter().enumerate().map(|(index, value)| {
        let to_then = u8::try_from(values.len() - index).expect("few values");
        sock_filter { jt: to_then, ..instruction(BPF_JMP | BPF_JEQ | BPF_K, u32::from(*value)) }
    });
    let mut block: Vec<_> = tests.collect();
    block.push(instruction(BPF_JMP | BPF_JA, count(then.len())));
    block.extend_from_slice(then);
    block
}

const RETURN: sock_filter = instruction(BPF_RET | BPF_A, 0);
const TO_X: sock_filter = instruction(BPF_MISC | BPF_TAX, 0);
const FROM_X: sock_filter = instruction(BPF_MISC | BPF_TXA, 0);

/// Loads a byte that is so far behind the UDP header.
const fn load_byte(at: u32) -> sock_filter {
    instruction(BPF_LD | BPF_B | BPF_ABS, at)
}

/// Loads what is so far behind the beginning of the IP header: the kernel names it by numbers below zero.
const fn load_ip(size: u32, at: u32) -> sock_filter {
    instruction(BPF_LD | size | BPF_ABS, SKF_NET_OFF.cast_unsigned() + at)
}

const fn calculate(operation: u32, operand: u32) -> sock_filter {
    instruction(BPF_ALU | operation | BPF_K, operand)
}

#[expect(clippy::cast_possible_truncation, reason = "codes have eight bits")]
const fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn count(instructions: usize) -> u32 {
    u32::try_from(instructions).expect("a program is short")
}
