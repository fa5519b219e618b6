/** Nonces: numbers that a host signs, each once. They are authenticated, so that one that was not used takes no place in
 *  the store. */
import { Buffer } from 'node:buffer';
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

export const NONCE_LIFE_MS = 60_000;

const RANDOM_BYTES = 18;
const TIME_BYTES = 6;
const MAC_BYTES = 18;
/** In base64url, without padding: no byte of it is left over. */
const FORM = new RegExp(`^[\\w-]{${((RANDOM_BYTES + TIME_BYTES + MAC_BYTES) / 3) * 4}}$`);

const macOf = (key: Uint8Array, body: Buffer): Buffer =>
  createHmac('sha256', key).update(body).digest().subarray(0, MAC_BYTES);

/** `now` in milliseconds. */
export function makeNonce(key: Uint8Array, now: number): string {
  const time = Buffer.alloc(TIME_BYTES);
  time.writeUIntBE(now + NONCE_LIFE_MS, 0, TIME_BYTES);
  const body = Buffer.concat([randomBytes(RANDOM_BYTES), time]);
  return Buffer.concat([body, macOf(key, body)]).toString('base64url');
}

/** Whether a server of this authority made the nonce, and when it was. */
export function checkNonce(key: Uint8Array, nonce: string, now: number): 'good' | 'expired' | 'unknown' {
  if (!FORM.test(nonce)) return 'unknown';
  const bytes = Buffer.from(nonce, 'base64url');
  const body = bytes.subarray(0, RANDOM_BYTES + TIME_BYTES);
  if (!timingSafeEqual(macOf(key, body), bytes.subarray(RANDOM_BYTES + TIME_BYTES))) return 'unknown';
  const until = body.readUIntBE(RANDOM_BYTES, TIME_BYTES);
  return now <= until ? 'good' : 'expired';
}
