/** A client of EC2 that is loaded when EC2 is first asked: the AWS SDK is a third of the code of the server, which starts
 *  containers without it while it has addresses ready. */
import { once } from '../domain/once.ts';
import { type Ec2Client, SEND_AT_ONCE, type Sender } from './cloud.ts';

export function createLaterEc2(load: () => Promise<Ec2Client>): Ec2Client {
  const loaded = once(load);

  function sendingBy(sender: Sender): Ec2Client {
    const client = async () => (await loaded()).sendingBy(sender);
    const later =
      <Given extends unknown[], T>(of: (client: Ec2Client) => (...given: Given) => Promise<T>) =>
      async (...given: Given): Promise<T> =>
        of(await client())(...given);
    return {
      sendingBy,
      async *enis(subnet) {
        yield* (await client()).enis(subnet);
      },
      region: later(one => one.region),
      someEni: later(one => one.someEni),
      eni: later(one => one.eni),
      enisById: later(one => one.enisById),
      carriers: later(one => one.carriers),
      subnet: later(one => one.subnet),
      reservations: later(one => one.reservations),
      instance: later(one => one.instance),
      profiles: later(one => one.profiles),
      instanceType: later(one => one.instanceType),
      addressLimit: later(one => one.addressLimit),
      assign: later(one => one.assign),
      unassign: later(one => one.unassign),
    };
  }
  return sendingBy(SEND_AT_ONCE);
}
