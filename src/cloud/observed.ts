/** Tells an observer of each request that a client sends to EC2. */
import { IpamError } from '../domain/error.ts';
import type { Observer } from '../domain/observer.ts';
import { type Ec2Client, SEND_AT_ONCE, type Sender } from './cloud.ts';

/** `clock`: milliseconds, monotonic. */
export function observed(client: Ec2Client, observer: Observer, clock: () => number): Ec2Client {
  async function sent<T>(action: string, send: () => Promise<T>): Promise<T> {
    const startedAt = clock();
    try {
      const answer = await send();
      observer.ec2Called(action, 'ok', clock() - startedAt);
      return answer;
    } catch (error) {
      const code = error instanceof IpamError ? error.code : 'internal';
      observer.ec2Called(action, code, clock() - startedAt);
      throw error;
    }
  }
  const sendingBy = (sender: Sender): Ec2Client => ({
    ...client.sendingBy((action, send) => sender(action, () => sent(action, send))),
    sendingBy,
  });
  return sendingBy(SEND_AT_ONCE);
}
