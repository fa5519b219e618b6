import type { Ipv4 } from '../../../src/domain/address.ts';
import type { Fixture } from '../fixture.ts';
import type { Host } from '../host.ts';
import { METADATA, SUBNETS } from '../site.ts';

/** No ready addresses, so that an ENI can be full. */
const SETTINGS = { EC2_IPAM_WARM_MIN: '0', EC2_IPAM_WARM_MAX: '0' };
const SOCKET = '/run/docker/plugins/ec2-ipam.sock';
const OPEN_CONFIG = '/root/ec2-ipam.json';
const NETWORKD_UNIT = '/etc/systemd/system/dbus-org.freedesktop.network1.service';

/** A trouble as the doctor has to name it: the line that says what, and its remedy. */
type Trouble = [what: RegExp, fix: RegExp];

/** A healthy host, then several troubles at a time, since each run of a program takes seconds here. */
export async function doctor(fixture: Fixture): Promise<void> {
  const { a: host, vpc, say } = fixture;
  fixture.distrust(); // it leaves the host broken
  await host.restart('embedded', SETTINGS);
  await host.mknet('--persist ens6 ens7');
  const { code, stdout, stderr } = await host.tryIpam('doctor');
  say(stdout + stderr);
  if (code !== 0 || !/^\d+ ok, 0 warning, 0 broken, 0 not checked$/m.test(stdout))
    throw new Error('a healthy host is not said to be');

  await host.sh(`ip link set dev ens6 down
    ip address add ${SUBNETS.blue.prefix}77/32 dev ens7`);
  host.write(
    '/etc/docker/plugins/ec2-ipam.json',
    '{"Name":"ec2-ipam","Addr":"https://ipam.internal:8031"}\n',
  );
  host.write(OPEN_CONFIG, '{"aws":{"accessKeyId":"AKIA","secretAccessKey":"hunter2"}}\n', 0o644);
  vpc.denied.add('AssignPrivateIpAddresses');
  await mustName(fixture, `doctor --config ${OPEN_CONFIG}`, [
    [/interface ens6: ens6 is down/, /mknet\.sh ens6/],
    [
      /interface ens7: ens7 has 10\.0\.2\.77\/32/,
      /mknet\.sh --persist ens7, then: ip address flush dev ens7/,
    ],
    [/plugin: two drivers have the name ec2-ipam/, /rm \/etc\/docker\/plugins\/ec2-ipam\.json/],
    [/rights eni-\w+: ec2:AssignPrivateIpAddresses is denied/, /policy/],
    [/permissions: --config: \/root\/ec2-ipam\.json is open/, /chmod 600 \/root\/ec2-ipam\.json/],
  ]);
  vpc.denied.clear();
  await host.sh(`rm /etc/docker/plugins/ec2-ipam.json ${OPEN_CONFIG}
    ip link set dev ens6 up
    ip address flush dev ens7`);

  await makeWrongNetwork(host);
  const eni = host.eniOf('red');
  fillUp(fixture, eni);
  vpc.dayAheadMs = -60_000;
  await host.sh(`mv ${SOCKET} ${SOCKET}.kept`);
  await host.server.stop();
  await host.sh(`mv ${SOCKET}.kept ${SOCKET}
    rm /etc/systemd/network/05-ec2-ipam-${eni}.network
    mkdir -p ${NETWORKD_UNIT.replace(/\/[^/]*$/, '')}
    ln -s /usr/lib/systemd/system/systemd-networkd.service ${NETWORKD_UNIT}`);
  host.write('/etc/systemd/network/70-all.network', '[Match]\nName=ens*\n\n[Network]\nDHCP=yes\n');
  await mustName(fixture, 'doctor', [
    [
      /network ens6: network wrong is for eni-\w+, but its parent is ens7, not ens6/,
      /docker network rm wrong/,
    ],
    [/room eni-\w+: eni-\w+ holds 30 of 30 addresses, and none is ready/, /attach another ENI/],
    [/clock: the clock of this host is \d+ s ahead of EC2's/, /chrony/],
    [
      /answer: nothing answers at unix:\/\/\/run\/docker\/plugins\/ec2-ipam\.sock: ECONNREFUSED/,
      /systemctl restart ec2-ipam/,
    ],
    [
      /managers ens6: systemd-networkd puts addresses on ens6, by \S+70-all\.network/,
      /mknet\.sh --persist ens6/,
    ],
  ]);
  vpc.dayAheadMs = 0;

  await host.stopDocker();
  await host.sh(`rm ${SOCKET}
    ip route add unreachable ${METADATA}`);
  await mustName(fixture, 'doctor', [
    [/docker: Docker does not listen on \/var\/run\/docker\.sock/, /systemctl start docker/],
    [/plugin: Docker finds no plugin ec2-ipam/, /systemctl restart ec2-ipam/],
    [/metadata: instance metadata cannot be read: E\w+/, /firewall/],
  ]);
}

async function mustName(
  { a: host, say }: Fixture,
  line: string,
  troubles: readonly Trouble[],
): Promise<void> {
  const { code, stdout, stderr } = await host.tryIpam(line);
  say(stdout + stderr);
  if (code !== 1) throw new Error(`it ended with ${code}`);
  if (stdout.includes('hunter2')) throw new Error('it shows a secret');
  const lines = stdout.split('\n');
  for (const [what, fix] of troubles) {
    const at = lines.findIndex(one => one.startsWith('BROKEN') && what.test(one));
    if (at < 0 || !fix.test(lines[at + 1] ?? ''))
      throw new Error(`not named with its remedy: ${what}, ${fix}`);
  }
}

/** In place of the two right ones: a network for red's ENI on the interface of blue's. */
async function makeWrongNetwork(host: Host): Promise<void> {
  await host.docker('network rm ec2-ens6 ec2-ens7');
  const { cidr, router } = SUBNETS.red;
  const options = `-o parent=ens7 --ipam-driver ec2-ipam --ipam-opt eni-id=${host.eniOf('red')}`;
  await host.docker(`network create -d ipvlan ${options} --subnet ${cidr} --gateway ${router} wrong`);
}

/** The instance type takes 30 addresses on an ENI. */
function fillUp({ vpc: { network } }: Fixture, id: string): void {
  const eni = [...network.enis()].find(one => one.id === id);
  if (eni === undefined) throw new Error(`no ${id}`);
  const ips = Array.from(
    { length: 29 - eni.secondaries.length },
    (_, i) => `${SUBNETS.red.prefix}${i + 100}` as Ipv4,
  );
  network.assign({ eni: eni.id, ips });
}
