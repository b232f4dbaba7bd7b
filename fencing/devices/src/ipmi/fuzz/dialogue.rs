//! Whole dialogues: the driver against a BMC that follows the bytes, over loopback and in simulated time.

use std::cell::RefCell;
use std::time::Duration;

use palisade_ladder::{Command, Failure, Reading, Response};
use palisade_proto::fuzz::{Bytes, check_words};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::super::session::ORDER_COPIES_MAX;
use super::super::{Ipmi, IpmiConfig, Privilege, Suite};
use super::bmc::{Bmc, GUID, PASSWORD, Told, USER};
use crate::{Device, Secret, Warrant};

/// Commands of one dialogue.
const COMMANDS_MAX: usize = 6;
/// Of one command, in simulated time: room for several logins and every repetition.
const DEADLINE: Duration = Duration::from_secs(5);
/// A BMC that is busy is ordered again this often at most.
const BUSY_MAX: usize = 3;

/// Whatever a BMC says: a command ends by its deadline, nothing is believed that the BMC did not say in this command under
/// the session's seal, no power order goes to a BMC with another GUID, and orders are copied a bounded number of times.
///
/// # Panics
/// If not.
pub fn ipmi_dialogue(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let setup = bytes.byte();
    let commands: [u8; COMMANDS_MAX] = bytes.array();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("no runtime").block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("no socket");
        let suite = if setup & 1 == 0 { Suite::Three } else { Suite::Seventeen };
        let guid = if setup & 0xf0 == 0xf0 { [0xb2; 16] } else { GUID };
        let bmc = RefCell::new(Bmc::new(suite, guid, bytes));
        let address = socket.local_addr().expect("no address");
        let hex: String = GUID.iter().map(|byte| format!("{byte:02x}")).collect();
        let (user, password) = (USER.to_owned(), Secret::new(PASSWORD.to_vec()));
        let config = IpmiConfig::new(address, user, password, None, suite, Privilege::Operator, &hex);
        let mut device = Ipmi::new(config.expect("a sound configuration"));
        tokio::select! {
            // In this order, always: a run repeats exactly.
            biased;
            () = serve(&socket, &bmc) => {}
            () = converse(&mut device, &commands, &bmc) => {}
        }
    });
}

async fn serve(socket: &UdpSocket, bmc: &RefCell<Bmc<'_>>) {
    let mut buffer = [0; 1024];
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        let answers = bmc.borrow_mut().hear(&buffer[..len]);
        for answer in answers {
            // A console that is gone is none of the BMC's business.
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn converse(device: &mut Ipmi, commands: &[u8], bmc: &RefCell<Bmc<'_>>) {
    for command in commands {
        let command = match command % 4 {
            0 => Command::Off,
            1 => Command::Read,
            2 => Command::Prove,
            _ => Command::On,
        };
        bmc.borrow_mut().told = Told::default();
        let began = Instant::now();
        let result = device.run(command, Warrant::from(began + DEADLINE)).await;
        let took = began.elapsed();
        // The BMC has its turn at what was sent last.
        tokio::task::yield_now().await;
        assert!(took <= DEADLINE + Duration::from_millis(1), "{command:?} took {took:?}");
        judge(command, &result, &bmc.borrow());
    }
    device.close(Instant::now() + DEADLINE).await;
}

fn judge(command: Command, result: &Result<Response, Failure>, bmc: &Bmc<'_>) {
    let (told, on) = (&bmc.told, command == Command::On);
    let wanted = if on { Reading::On } else { Reading::Off };
    assert!(bmc.named_itself || told.ordered.is_empty(), "SAFE-4: ordered without knowing whom");
    assert!(told.ordered.len() <= ORDER_COPIES_MAX as usize + BUSY_MAX, "{} copies", told.ordered.len());
    match command {
        Command::Off | Command::On => assert!(told.ordered.iter().all(|ordered| *ordered == on)),
        Command::Read | Command::Prove => assert!(told.ordered.is_empty(), "a question is an order"),
    }
    match result {
        Ok(Response::Acknowledged) => assert!(told.acknowledged.contains(&on), "nobody acknowledged"),
        Ok(Response::AlreadySo) => assert!(told.readings.contains(&wanted), "SAFE-4: nobody said so"),
        Ok(Response::Reads(Reading::Unknown)) => {}
        Ok(Response::Reads(power)) => assert!(told.readings.contains(power), "SAFE-4: nobody read {power:?}"),
        Ok(Response::Proven(proven)) => {
            assert!(bmc.named_itself && proven.may_fence);
            assert_eq!(proven.identity.0, "a1".repeat(16));
        }
        Err(failure) => check_words(failure),
    }
}
