//! SQL that makes a SQLite file large.

/// Returns statements that create the table `other` with this number of rows of 1,000 bytes.
pub fn large_table(rows: u32) -> String {
    format!(
        "
        CREATE TABLE other (c);

        WITH RECURSIVE numbers (n) AS (
            SELECT 1
            UNION ALL
            SELECT n + 1
            FROM numbers
            WHERE n < {rows}
        )
        INSERT INTO other
        SELECT zeroblob(1000)
        FROM numbers;
        "
    )
}
