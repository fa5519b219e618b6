/** Encrypts a secret with a passphrase: AES-256-GCM, with a key that scrypt derives. */
import { Buffer } from 'node:buffer';
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { promisify } from 'node:util';

/** All in base64. */
export interface Sealed {
  readonly salt: string;
  readonly iv: string;
  readonly tag: string;
  readonly data: string;
}

const KEY_BYTES = 32;
const SALT_BYTES = 16;
const IV_BYTES = 12;

const derive = promisify(scrypt) as (passphrase: string, salt: Buffer, bytes: number) => Promise<Buffer>;
const encoded = (bytes: Buffer): string => bytes.toString('base64');
const decoded = (text: string): Buffer => Buffer.from(text, 'base64');

/** `open` returns the secret only with the same passphrase and the same `context`. */
export async function seal(secret: string, passphrase: string, context: string): Promise<Sealed> {
  const salt = randomBytes(SALT_BYTES);
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv('aes-256-gcm', await derive(passphrase, salt, KEY_BYTES), iv);
  cipher.setAAD(Buffer.from(context));
  const data = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final()]);
  return { salt: encoded(salt), iv: encoded(iv), tag: encoded(cipher.getAuthTag()), data: encoded(data) };
}

/** Null: the passphrase or the context is another, or the sealed secret was changed. */
export async function unseal(sealed: Sealed, passphrase: string, context: string): Promise<string | null> {
  const key = await derive(passphrase, decoded(sealed.salt), KEY_BYTES);
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, decoded(sealed.iv), { authTagLength: 16 });
    decipher.setAAD(Buffer.from(context));
    decipher.setAuthTag(decoded(sealed.tag));
    return Buffer.concat([decipher.update(decoded(sealed.data)), decipher.final()]).toString('utf8');
  } catch {
    return null;
  }
}
