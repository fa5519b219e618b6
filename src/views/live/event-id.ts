/** The ids of live events: the process that counts them, and a number that rises. */
const ID = /^([0-9a-f]+)-(\d{1,15})$/;

export const eventId = (epoch: string, number: number): string => `${epoch}-${number}`;

/** Null: the id is of another process, or it is none. */
export function numberIn(epoch: string, id: string): number | null {
  const [, of, number] = ID.exec(id) ?? [];
  return of === epoch ? Number(number) : null;
}

/** Whether both are of one process, and the one came before the other. */
export function isBefore(one: string, other: string): boolean {
  const [, epoch = '', number] = ID.exec(one) ?? [];
  return number !== undefined && Number(number) < (numberIn(epoch, other) ?? 0);
}
