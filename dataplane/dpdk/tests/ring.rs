//! DPDK without any device: net_ring loops every frame from tx to rx in this process.
#![allow(clippy::unwrap_used)]

mod common;

use common::{config, content, frame, pool, receive, send};
use dpdk::{Eal, Error, LocalPool, Mbuf, Mempool, Port, PortConfig, PortDevice, Queue};
use packet::{BURST, Buffer, Burst, Link, Pool};

#[test]
fn frames_loop_through_a_ring_and_every_buffer_comes_home() {
    let eal = Eal::init(&config(false)).unwrap();
    a_second_init_is_refused(&eal);
    let mempool = pool(&eal, "frames");
    frames_come_back_unchanged_and_in_order(&eal, &mempool);
    a_full_device_leaves_the_rest_in_order(&eal, &mempool);
    missing_queues_do_nothing(&eal, &mempool);
    nothing_leaks(&eal, &mempool);
    refusals_name_what_was_asked_for(&eal, &mempool);
    lcores_run_closures(&eal, &mempool);
    assert_eq!(
        mempool.available(),
        mempool.count(),
        "all buffers are home at the end"
    );
}

fn ring(name: &str) -> PortDevice {
    PortDevice::Vdev(name.to_owned())
}

/// What each type may do across threads; the opposite for queues is in the documentation.
const fn handles_may_change_threads() {
    const fn sent<T: Send>() {}
    const fn shared<T: Sync>() {}
    sent::<(Queue, Mbuf, LocalPool, Port)>();
    shared::<(Eal, Mempool, Mbuf, Port)>();
}
const _: () = handles_may_change_threads();

fn a_second_init_is_refused(eal: &Eal) {
    assert_eq!(
        Eal::init(&config(false)).unwrap_err(),
        Error::AlreadyInitialised
    );
    assert_eq!(eal.lcores().len(), 2);
    assert!(Eal::version().starts_with("DPDK 2"), "{}", Eal::version());
}

fn frames_come_back_unchanged_and_in_order(eal: &Eal, mempool: &Mempool) {
    let wanted = PortConfig {
        mtu: 1500,
        promiscuous: true,
        ..PortConfig::default()
    };
    let (port, mut queues) = Port::open(eal, &ring("net_ring0"), &wanted, mempool).unwrap();
    assert_eq!(port.info().driver, "net_ring");
    assert_eq!(port.info().mtu, 1500);
    assert_eq!(queues.len(), 1);
    let queue = &mut queues[0];
    let mut local = mempool.local();
    let lengths = [15, 60, 64, 128, 1500, 1514, 1518, 2048];
    let mut frames = Burst::new();
    for number in 0..BURST {
        let len = lengths[number % lengths.len()];
        frames.push(frame(&mut local, &content(number, len)));
    }
    assert_eq!(queue.tx_burst(&mut frames), BURST);
    assert!(frames.is_empty());
    // In two parts: what is there already stays, and the capacity is respected.
    let mut back: Burst<Mbuf> = Burst::new();
    back.push(frame(&mut local, b"was here before"));
    assert_eq!(queue.rx_burst(&mut back), BURST - 1);
    assert_eq!(back.remove(0).bytes(), b"was here before");
    assert_eq!(queue.rx_burst(&mut back), 1);
    for (number, mbuf) in back.iter().enumerate() {
        let len = lengths[number % lengths.len()];
        assert_eq!(mbuf.bytes(), content(number, len), "frame {number}");
        assert!(mbuf.is_contiguous());
    }
    let stats = port.stats();
    assert_eq!(
        (stats.rx_frames, stats.tx_frames),
        (BURST as u64, BURST as u64)
    );
    assert!(stats.interface.is_none());
    assert!(port.link().up);
    let twice = Port::open(eal, &ring("net_ring0"), &wanted, mempool).unwrap_err();
    assert_eq!(
        twice,
        Error::AlreadyOpen {
            device: ring("net_ring0")
        }
    );
    // The port goes with the last handle or queue, whichever that is, and can be opened again.
    drop(port);
    back.truncate(1);
    send(queue, &mut back);
    receive(
        queue,
        "the queue works without the port's handle",
        |bytes| (bytes.len() == 15).then_some(()),
    );
    drop(queues);
    let (again, _) = Port::open(eal, &ring("net_ring0"), &wanted, mempool).unwrap();
    assert_eq!(again.stats().rx_frames, 0);
}

/// A ring has 1,024 slots; what does not fit stays with the caller.
fn a_full_device_leaves_the_rest_in_order(eal: &Eal, mempool: &Mempool) {
    let config = PortConfig::default();
    let (_port, mut queues) = Port::open(eal, &ring("net_ring1"), &config, mempool).unwrap();
    let queue = &mut queues[0];
    let mut local = mempool.local();
    let mut sent = 0;
    let mut frames = Burst::new();
    loop {
        while !frames.is_full() {
            let number = sent + frames.len();
            frames.push(frame(&mut local, &(number as u32).to_be_bytes()));
        }
        let taken = queue.tx_burst(&mut frames);
        sent += taken;
        assert_eq!(frames.len(), BURST - taken);
        if taken < BURST {
            break;
        }
    }
    for (offset, mbuf) in frames.iter().enumerate() {
        assert_eq!(mbuf.bytes(), ((sent + offset) as u32).to_be_bytes());
    }
    Mbuf::free_bulk(&mut frames);
    assert!(frames.is_empty());
    let mut expected = 0_u32;
    while queue.rx_burst(&mut frames) > 0 {
        for mbuf in frames.drain(..) {
            assert_eq!(mbuf.bytes(), expected.to_be_bytes());
            expected += 1;
        }
    }
    assert_eq!(expected as usize, sent);
}

fn missing_queues_do_nothing(eal: &Eal, mempool: &Mempool) {
    // A ring device has 16 queues at most.
    let config = PortConfig {
        rx_queues: 20,
        tx_queues: 2,
        ..PortConfig::default()
    };
    let (port, mut queues) = Port::open(eal, &ring("net_ring2"), &config, mempool).unwrap();
    assert_eq!((port.info().rx_queues, port.info().tx_queues), (16, 2));
    assert!(!port.info().rss, "a ring offers no RSS");
    assert_eq!(queues.len(), 20);
    let has: Vec<_> = queues
        .iter()
        .map(|queue| (queue.has_rx(), queue.has_tx()))
        .collect();
    assert_eq!(has[1], (true, true));
    assert_eq!(has[2], (true, false));
    assert_eq!(has[16], (false, false));
    let mut local = mempool.local();
    let mut frames = Burst::new();
    frames.push(frame(&mut local, b"nobody takes me"));
    assert_eq!(queues[16].tx_burst(&mut frames), 0);
    assert_eq!(queues[16].rx_burst(&mut frames), 0);
    assert_eq!(queues[2].tx_burst(&mut frames), 0);
    assert_eq!(frames.len(), 1);
    // Queues of a pair belong together: what goes out on 1 comes in on 1.
    send(&mut queues[1], &mut frames);
    assert_eq!(queues[0].rx_burst(&mut frames), 0);
    assert_eq!(queues[1].rx_burst(&mut frames), 1);
}

/// 100,000 buffers by each way home: dropped one by one, freed in bulk, through the device.
fn nothing_leaks(eal: &Eal, mempool: &Mempool) {
    let config = PortConfig::default();
    let (port, mut queues) = Port::open(eal, &ring("net_ring3"), &config, mempool).unwrap();
    let queue = &mut queues[0];
    let mut local = mempool.local();
    assert_eq!(mempool.available(), mempool.count());
    for number in 0..100_000 {
        let mbuf = local.alloc().unwrap();
        assert!(number > 0 || mempool.available() == mempool.count() - 1);
        drop(mbuf);
    }
    assert_eq!(mempool.available(), mempool.count());
    let mut frames = Burst::new();
    for _ in 0..100_000 / BURST {
        assert_eq!(local.alloc_burst(&mut frames), BURST);
        Mbuf::free_bulk(&mut frames);
    }
    assert_eq!(mempool.available(), mempool.count());
    for _ in 0..100_000 / BURST {
        assert_eq!(local.alloc_burst(&mut frames), BURST);
        assert_eq!(queue.tx_burst(&mut frames), BURST);
        assert_eq!(queue.rx_burst(&mut frames), BURST);
        frames.clear();
    }
    assert_eq!(mempool.available(), mempool.count());
    assert_eq!(port.stats().tx_frames, 100_000);
}

fn refusals_name_what_was_asked_for(eal: &Eal, mempool: &Mempool) {
    let open = |device: &PortDevice, config: &PortConfig| {
        Port::open(eal, device, config, mempool)
            .map(|_| ())
            .unwrap_err()
    };
    let config = PortConfig::default();
    let missing = PortDevice::AfPacket("no-such-if".to_owned());
    let interface = "no-such-if".to_owned();
    assert_eq!(
        open(&missing, &config),
        Error::NoInterface {
            device: missing,
            interface
        }
    );
    for device in [
        PortDevice::Vdev("net_nonsense0".to_owned()),
        PortDevice::Vdev(String::new()),
        PortDevice::Vdev("net_null0,no_such_key=1".to_owned()),
        PortDevice::Pci("0000:7f:1f.7".to_owned()),
        PortDevice::Pci("nonsense".to_owned()),
    ] {
        let error = open(&device, &config);
        assert!(matches!(error, Error::Device { .. }), "{device}: {error:?}");
        assert!(
            error.to_string().starts_with(&device.to_string()),
            "{error}"
        );
    }
    let jumbo = PortConfig {
        mtu: 9000,
        ..PortConfig::default()
    };
    let small = open(&ring("net_ring4"), &jumbo);
    assert!(
        matches!(
            small,
            Error::SmallBuffers {
                needed: 9150,
                data_room: 2176,
                ..
            }
        ),
        "{small}"
    );
    let twin = Mempool::new(eal, mempool.name(), 63, 2176, 0)
        .unwrap_err()
        .to_string();
    assert!(
        twin.contains("pool frames of 63") && twin.contains("exists"),
        "{twin}"
    );
    let huge = Mempool::new(eal, "huge", 10_000_000, 2176, 0)
        .unwrap_err()
        .to_string();
    assert!(
        huge.contains("10000000") && huge.contains("memory"),
        "{huge}"
    );
}

fn lcores_run_closures(eal: &Eal, mempool: &Mempool) {
    assert_eq!(Eal::current_lcore(), Some(0));
    let far = mempool.clone();
    let worker = eal
        .launch(1, move || (Eal::current_lcore(), far.local().alloc()))
        .unwrap();
    let (lcore, mbuf) = worker.join().unwrap();
    assert_eq!(lcore, Some(1));
    assert!(
        mbuf.is_some(),
        "a frame may change threads and be freed elsewhere"
    );
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let worker = eal.launch(1, move || wait.recv()).unwrap();
    assert!(!worker.is_finished());
    assert!(matches!(
        eal.launch(1, || ()),
        Err(Error::Lcore { lcore: 1, .. })
    ));
    go.send(()).unwrap();
    assert_eq!(worker.join().unwrap(), Ok(()));
    for lcore in [0, 2, 127, 128, u32::MAX] {
        assert!(
            matches!(eal.launch(lcore, || ()), Err(Error::Lcore { .. })),
            "{lcore}"
        );
    }
    let worker = eal.launch(1, || panic!("flow {} is odd", 7)).unwrap();
    let error = worker.join().map(|()| "returned").unwrap_err();
    let message = "flow 7 is odd".to_owned();
    assert_eq!(error, Error::WorkerPanicked { lcore: 1, message });
    assert_eq!(
        eal.launch(1, || 5).unwrap().join(),
        Ok(5),
        "the lcore survives the panic"
    );
    assert!(
        std::thread::spawn(Eal::current_lcore)
            .join()
            .unwrap()
            .is_none()
    );
}
