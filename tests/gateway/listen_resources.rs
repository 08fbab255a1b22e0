//! Following resources by listening, on either side (S-SUB, S-RES).
