// Goal: what mknet.sh --persist writes, networkd and mknet.sh --link read, so that a reboot brings the links up. Method:
// as in mknet.test.ts, with the real networkd.
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import * as host from '../kit/docker/mknet-host.ts';
import { MKNET, must, until } from '../kit/docker/netns.ts';
import { assert } from '../kit/uvu.ts';

const { rule, mknet } = host.hostSuite('mknet.sh: the links');

const FILE = '05-ec2-ipam-eni-0bbb.network';
const CONTENTS = `[Match]
MACAddress=${host.MAC}
Driver=!ipvlan

[Link]
MTUBytes=8500
ActivationPolicy=up
RequiredForOnline=no

[Network]
DHCP=no
IPv6AcceptRA=no
LinkLocalAddressing=no
`;
rule('--persist: writes the file that networkd reads first, once, and reloads networkd', async () => {
  await host.attachOne();
  host.write('networkd-runs', '');
  await host.succeeds('--persist --mtu 8500');
  assert.equal(readdirSync(host.networkd), [FILE]);
  assert.is(statSync(join(host.networkd, FILE)).mode & 0o777, 0o644);
  assert.is(readFileSync(join(host.networkd, FILE), 'utf8').replace(/^#.*\n/gm, ''), CONTENTS);
  assert.is(host.read('networkctl.log'), 'networkctl reload\n');
  await host.succeeds('--persist --mtu 8500', /exists already/);
  assert.is(host.read('networkctl.log'), 'networkctl reload\n');
});

rule('--persist: leaves a networkd that does not run alone', async () => {
  await host.attachOne();
  await host.succeeds('--persist');
  assert.equal([readdirSync(host.networkd), host.read('networkctl.log')], [[FILE], '']);
});

const NETWORKD = '/usr/lib/systemd/systemd-networkd';
/** Runs networkd until the interface is as it should be. */
async function withNetworkd(what: string, isSo: () => Promise<boolean>): Promise<void> {
  // It brings no bus and no udev: with a /sys that can't be written, networkd doesn't wait for udev.
  const program = await host.machine.start([NETWORKD], 'networkd.log', { SYSTEMD_LOG_LEVEL: 'info' });
  await until(what, 10_000, isSo);
  await program.signal('TERM');
  await program.ended;
}
const prepareNetworkd = `
  mount -t sysfs -o ro sysfs /sys
  mkdir -p /run/systemd/network /run/systemd/netif/{links,leases,lldp}
  chown -R systemd-network: /run/systemd/netif
  printf '%s\\n' '[Match]' 'Name=lan3' '[Network]' 'Address=10.0.1.10/24' 'Address=10.0.1.77/32' \
    >/run/systemd/network/70-lan3.network`;
const addresses = async (): Promise<number> => {
  const [found] = JSON.parse(await must(host.machine, 'ip -json -4 address show dev lan3'));
  return (found?.addr_info ?? []).length;
};
const networkdRule = process.getuid?.() === 0 && existsSync(NETWORKD) ? rule : mknet.skip;
networkdRule("networkd after --persist: prefers our file to amazon-ec2-net-utils'", async () => {
  await host.attachOne();
  await must(host.machine, ['bash', '-ec', prepareNetworkd]);
  await withNetworkd('networkd puts the addresses on', async () => (await addresses()) === 2);
  await host.warns('--persist --mtu 8500', /warning: lan3 has/, { EC2_IPAM_NETWORKD_DIR: '' });
  await must(host.machine, 'ip link set dev lan3 mtu 1500 down');
  await withNetworkd('networkd takes them off and brings the link up', async () => {
    const { mtu, up } = await host.link('lan3');
    return (await addresses()) === 0 && mtu === 8500 && up;
  });
});

const persisted = (mac: string, mtu: number, name: string): void =>
  writeFileSync(
    join(host.networkd, `05-ec2-ipam-${name}.network`),
    `[Match]\nMACAddress=${mac}\n[Link]\nMTUBytes=${mtu}\n`,
  );

rule('--link: waits for an ENI that is late, and asks neither Docker nor instance metadata', async () => {
  persisted(host.MAC, 8000, 'eni-0bbb');
  const log = 'link.log';
  const env = host.environment({ AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://127.0.0.1:1' });
  // Tells each look at the interfaces, so that the ENI surely comes after the first.
  const ip = join(host.machine.folder, 'bin', 'ip');
  const telling = `#!/usr/bin/env bash\necho looked >>"$FAKE/ip.log"\nPATH='${process.env.PATH}' exec ip "$@"\n`;
  writeFileSync(ip, telling, { mode: 0o755 });
  try {
    const waiting = await host.machine.start(['bash', MKNET, '--link'], log, env);
    await until('it looks a second time', 5_000, async () => host.read('ip.log').includes('looked\nlooked'));
    await host.addLink(host.MAC, 'lan5');
    assert.is(await waiting.ended, 0);
  } finally {
    rmSync(ip);
  }
  assert.match(readFileSync(join(host.machine.folder, log), 'utf8'), `lan5 (${host.MAC}): up, MTU 8000`);
  assert.equal(await host.link('lan5'), { mtu: 8000, up: true });
  assert.is(host.read('docker.log'), '');
});

rule('--link: brings up the others when one ENI never comes, and names that one', async () => {
  persisted(host.SECOND_MAC, 9001, 'eni-0aaa');
  persisted(host.MAC, 9001, 'eni-0bbb');
  await host.addLink(host.MAC, 'lan5');
  const late = /no interface appeared within 1 s for 05-ec2-ipam-eni-0aaa\.network \(02:00:00:00:00:0c\)/;
  await host.fails('--link', 1, late, { EC2_IPAM_LINK_WAIT_S: '1' });
  assert.equal(await host.link('lan5'), { mtu: 9001, up: true });
});

rule('--link: brings up the others when one ENI refuses its MTU, and says so', async () => {
  persisted(host.SECOND_MAC, 70_000, 'eni-0aaa');
  persisted(host.MAC, 9001, 'eni-0bbb');
  await host.addLink(host.SECOND_MAC, 'lan4');
  await host.addLink(host.MAC, 'lan5');
  await host.fails('--link', 1, /^mknet\.sh: cannot bring lan4 up with MTU 70000: .*choose another --mtu\n$/);
  assert.equal(await host.link('lan5'), { mtu: 9001, up: true });
});

rule('--link without a persisted ENI: has nothing to do', () =>
  host.succeeds('--link', /nothing to bring up/),
);

rule('--link: reads what --persist writes', async () => {
  await host.attachOne();
  await host.succeeds('--persist --mtu 7000');
  await must(host.machine, 'ip link set dev lan3 mtu 1500 down');
  await host.succeeds('--link');
  assert.equal(await host.link('lan3'), { mtu: 7000, up: true });
});
mknet.run();
