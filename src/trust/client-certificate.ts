/** The times in a client certificate. domain/certificate.ts reads the instance. */
import type { X509Certificate } from 'node:crypto';

/** A certificate of the authority begins so much before it was made, for clocks that are behind. */
export const BACKDATED_MS = 5 * 60_000;

export const expiryOf = ({ validTo }: X509Certificate): number => Date.parse(validTo);

/** When a certificate of the authority was made, by the store's clock. */
export const issueTimeOf = ({ validFrom }: X509Certificate): number => Date.parse(validFrom) + BACKDATED_MS;
