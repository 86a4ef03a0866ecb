//! Gateways in virtual machines that own their NICs: one on a plain board, installed as `docs/install.md` says, with each model
//! of NIC in turn, and one with NICs of several queues on a board with two NUMA nodes.

#![allow(unreachable_pub, reason = "modules of one program")]

mod nodes;
mod page;
mod plain;
mod record;
mod serving;

use std::time::Instant;

use ci::topology::{Plan, Topology};
use ci::vm::{Board, Image, Machine, Model};

use record::Record;

/// Environment variable with the models to try, by their names, with commas; unset = all.
const MODELS: &str = "PORTGATE_VM_MODELS";

/// Run by `ci/run.sh test-vm`, which makes the package and the guest.
#[test]
#[ignore = "boots virtual machines: make test-vm"]
fn a_vm_that_owns_its_nics_serves_on_virtio_e1000e_and_vmxnet3_and_with_several_queues() {
    let image = Image::from_environment();
    let wanted = std::env::var(MODELS).unwrap_or_default();
    let is_wanted =
        |model: &Model| wanted.is_empty() || wanted.split(',').any(|name| name == model.name());
    let [plain, several] = [Board::Plain, Board::TwoNodes].map(|board| {
        let models = board.models().iter().copied();
        models.filter(is_wanted).collect::<Vec<_>>()
    });
    assert!(
        !plain.is_empty() || !several.is_empty(),
        "{MODELS} is {wanted:?}: no model of that name"
    );
    let mut record = Record::start();
    if !plain.is_empty() {
        on(&image, Board::Plain, |net, machine| {
            record.boot(machine);
            for (at, model) in plain.iter().enumerate() {
                let (is_first, is_last) = (at == 0, at + 1 == plain.len());
                record.row(plain::serve(net, machine, *model, is_first, is_last));
                // Of what was done so far, should the next one fail.
                record.leave();
            }
            record.cpu(machine);
        });
    }
    for model in several {
        on(&image, Board::TwoNodes, |net, machine| {
            record.boot(machine);
            record.nodes(nodes::serve(net, machine, model));
            record.cpu(machine);
        });
    }
    record.leave();
}

/// Does something with a machine in a network of its own, whose pods serve.
fn on(image: &Image, board: Board, work: impl FnOnce(&Topology, &Machine<'_>)) {
    let begun = Instant::now();
    let net = Topology::new(Plan::default());
    let _servers = [0, 1].map(|index| net.start_nginx(index));
    let _echoes = [0, 1].map(|index| net.start_echo(index));
    let machine = Machine::boot(image, board, &net.gateway, net.directory());
    println!("login after {:?}", machine.boot);
    work(&net, &machine);
    println!("{board:?}: {:?}", begun.elapsed());
}
