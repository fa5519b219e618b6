/** Asks EC2 for all that a server on this host needs of it. */
import { fromNumber } from '../../domain/address.ts';
import { IpamError } from '../../domain/error.ts';
import type { EniId, InstanceId } from '../../domain/ids.ts';
import { fact } from '../facts.ts';
import { broken, type Finding, named, notChecked } from '../finding.ts';
import type { OwnServer } from '../parts.ts';
import { judgeAttachment, judgeClock, judgeRights, judgeRoom, judgeSubnet } from './ec2.ts';
import { readyOn } from './ledger.ts';

/** `instance`: this one; null: not known. */
export async function checkEc2(
  own: OwnServer,
  enis: readonly EniId[],
  instance: InstanceId | null,
  timeOfDay: () => number,
): Promise<readonly Finding[]> {
  const found = await Promise.all(enis.map(id => askEc2(own, id, instance)));
  const now = own.ec2.now();
  return [...found.flat(), ...named('clock', [judgeClock(now === null ? null : timeOfDay() - now)])];
}

async function askEc2(
  { ec2: { reads, askRights }, ledger }: OwnServer,
  id: EniId,
  instance: InstanceId | null,
): Promise<readonly Finding[]> {
  try {
    const eni = await reads.eni(id);
    const [subnet, type, ready] = await Promise.all([
      reads.subnet(eni.subnet),
      eni.instance === null ? null : reads.instanceType(eni.instance),
      readyOn(ledger, id),
    ]);
    const limit = type === null ? null : await reads.addressLimit(type);
    const away = instance === null ? null : judgeAttachment(eni, instance);
    const router = fromNumber(subnet.cidr.first + 1);
    const rights = await fact(askRights({ eni: id, primary: eni.primary, router }));
    return [
      ...named(
        `room ${id}`,
        [away, judgeRoom(eni, limit, ready)].filter(one => one !== null),
      ),
      ...named(`subnet ${eni.subnet}`, [judgeSubnet(subnet, ready)]),
      ...named(`rights ${id}`, 'value' in rights ? judgeRights(rights.value) : [notChecked(rights.why)]),
    ];
  } catch (error) {
    if (!(error instanceof IpamError) || error.code === 'internal') throw error;
    return named(`EC2 ${id}`, [broken(error.message, error.hint || 'see what keeps this host from EC2')]);
  }
}
